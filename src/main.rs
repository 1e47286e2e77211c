// SPDX-License-Identifier: BSD-2-Clause
//! hello: parse, run the mode, exit status. The tour is in `src/lib.rs`.

use std::process::ExitCode;

use hello::cli;
use hello::cli::Parsed;
use hello::run;

fn main() -> ExitCode {
    let status = match cli::parse(&run::mode_infos(), std::env::args_os()) {
        Ok(Parsed::Say(text)) => run::say(&text),
        Ok(Parsed::Run(args)) if args.version => run::say(&format!("{}\n", run::version())),
        Ok(Parsed::Run(args)) => run::run(*args),
        Err(usage) => {
            hello::say!("hello: {usage}");
            run::USAGE
        }
    };
    ExitCode::from(status)
}

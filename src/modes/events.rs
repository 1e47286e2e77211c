// SPDX-License-Identifier: BSD-2-Clause
//! What modes that report single events have in common: from a record to a row.

use crate::cli::Format;
use crate::enrich::host::Host;
use crate::enrich::time::Clock;
use crate::output::Output;
use crate::session::Context;
use crate::session::Source;
use crate::wire::WireError;

/// Makes a row of a record and hands it to the output.
pub(super) type Show = fn(&[u8], &mut Host, &mut Output) -> Result<(), WireError>;

/// The [`Source`] of an event mode.
pub(super) struct Events {
    header: &'static str,
    show: Show,
    host: Host,
    output: Output,
}

impl Events {
    pub(super) fn new(cx: &Context, header: &'static str, show: Show) -> Self {
        Self {
            header,
            show,
            host: Host::new(cx.users.clone(), cx.args.output == Format::Json),
            output: Output::new(cx.args.output, cx.args.count),
        }
    }
}

impl Source for Events {
    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn begin(&mut self) {
        self.output.header(self.header);
    }

    fn woke(&mut self) {
        self.host.clock = Clock::now();
    }

    fn record(&mut self, record: &[u8]) {
        if let Err(error) = (self.show)(record, &mut self.host, &mut self.output) {
            // Cannot happen unless kernel and user side disagree; the ledger's sums
            // then fail to hold and say so too.
            crate::say!("hello: {error}");
        }
    }
}

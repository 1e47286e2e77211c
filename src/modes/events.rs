// SPDX-License-Identifier: BSD-2-Clause
//! What modes that report single events have in common: from a record to a row.

use anyhow::Result;
use libbpf_rs::Object;

use crate::enrich::host::Host;
use crate::output::Output;
use crate::session;
use crate::session::Context;
use crate::session::Source;
use crate::wire::WireError;

/// Makes a row of a record and hands it to the output.
pub(super) type Show = Box<dyn FnMut(&[u8], &mut Host, &mut Output) -> Result<(), WireError>>;

/// The [`Source`] of an event mode.
pub(super) struct Events {
    explain: bool,
    show: Show,
    host: Host,
    output: Output,
}

impl Events {
    pub(super) fn new(
        cx: &Context,
        show: impl FnMut(&[u8], &mut Host, &mut Output) -> Result<(), WireError> + 'static,
    ) -> Self {
        Self {
            explain: cx.args.explain,
            show: Box::new(show),
            host: Host::new(cx.users.clone(), &cx.args),
            output: Output::new(cx.args.output, cx.layout.clone(), cx.args.count),
        }
    }
}

impl Source for Events {
    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn loaded(&mut self, object: &Object, _: bool) -> Result<()> {
        session::find_containers(object, &mut self.host.containers)
    }

    fn begin(&mut self) {
        if self.explain {
            self.output.explain();
        }
        self.output.header();
    }

    fn woke(&mut self) {
        self.host.clock.refresh();
    }

    fn record(&mut self, record: &[u8]) {
        if let Err(error) = (self.show)(record, &mut self.host, &mut self.output) {
            // Cannot happen unless kernel and user side disagree; the ledger's sums
            // then fail to hold and say so too.
            crate::say!("hello: {error}");
        }
    }
}

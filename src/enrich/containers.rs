// SPDX-License-Identifier: BSD-2-Clause
//! Container ids. The kernel side reads them from the names of control groups
//! (src/bpf/container.bpf.h) and sends their first eight bytes with each event.

use std::collections::HashMap;
use std::fmt;

type Lookup = Box<dyn Fn(u64) -> Option<Vec<u8>>>;

/// Ids that are remembered, of some 100 bytes each.
const MOST: usize = 16 << 10;

/// Whole ids by their beginning.
#[derive(Default)]
pub struct Containers {
    lookup: Option<Lookup>,
    known: HashMap<u64, String>,
}

impl fmt::Debug for Containers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Containers")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl Containers {
    /// From now on ids are looked up there.
    pub fn look_up_by(&mut self, lookup: impl Fn(u64) -> Option<Vec<u8>> + 'static) {
        self.lookup = Some(Box::new(lookup));
    }

    /// The id that begins so, in hexadecimal; its beginning if the rest is not known
    /// any more; `None` for no container.
    pub fn id(&mut self, beginning: u64) -> Option<&str> {
        if beginning == 0 {
            return None;
        }
        if self.known.len() >= MOST && !self.known.contains_key(&beginning) {
            self.known.clear();
        }
        let lookup = self.lookup.as_ref();
        Some(self.known.entry(beginning).or_insert_with(|| {
            match lookup.and_then(|lookup| lookup(beginning)) {
                Some(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                None => format!("{beginning:016x}"),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let mut containers = Containers::default();
        assert_eq!(containers.id(0), None);
        assert_eq!(containers.id(0xab), Some("00000000000000ab"));
        containers.look_up_by(|_| Some(vec![0x12; 32]));
        assert_eq!(containers.id(0x1212), Some("12".repeat(32).as_str()));
    }
}

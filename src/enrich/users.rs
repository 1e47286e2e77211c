// SPDX-License-Identifier: BSD-2-Clause
//! User names and numbers, from /etc/passwd itself.
//!
//! Not by getpwuid(3): in a static glibc program NSS loads shared objects of
//! another glibc and crashes. Users that only a directory service knows stay
//! numbers.

use std::collections::HashMap;
use std::path::Path;

/// One line of passwd(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// The users of this host.
#[derive(Clone, Debug, Default)]
pub struct Users {
    by_uid: HashMap<u32, User>,
    uid_by_name: HashMap<String, u32>,
}

impl Users {
    /// Reads /etc/passwd; a host without it has no names, only numbers.
    pub fn of_this_host() -> Self {
        Self::parse(&std::fs::read(Path::new("/etc/passwd")).unwrap_or_default())
    }

    /// Reads the format of passwd(5); lines that are none are passed over, and of
    /// several names for one number the first counts, as with getpwuid(3).
    pub fn parse(passwd: &[u8]) -> Self {
        let mut users = Self::default();
        for line in String::from_utf8_lossy(passwd).lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(_), Some(uid), Some(gid)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
                continue;
            };
            let home = fields.nth(1).unwrap_or("/").to_owned();
            let shell = fields.next().unwrap_or("/bin/sh").to_owned();
            let user = User {
                name: name.to_owned(),
                uid,
                gid,
                home,
                shell,
            };
            users.uid_by_name.entry(user.name.clone()).or_insert(uid);
            users.by_uid.entry(uid).or_insert(user);
        }
        users
    }

    /// The name of a user id, if it has one.
    pub fn name(&self, uid: u32) -> Option<&str> {
        self.by_uid.get(&uid).map(|user| user.name.as_str())
    }

    /// All that is known of a user id.
    pub fn user(&self, uid: u32) -> Option<&User> {
        self.by_uid.get(&uid)
    }

    /// The user id of a name or a number.
    pub fn uid(&self, name_or_number: &str) -> Option<u32> {
        self.uid_by_name
            .get(name_or_number)
            .copied()
            .or_else(|| name_or_number.parse().ok())
    }
}

/// The groups that `name` is a member of, by group(5).
pub fn supplementary_groups(group_file: &[u8], name: &str) -> Vec<u32> {
    String::from_utf8_lossy(group_file)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let gid = fields.nth(2)?.parse().ok()?;
            fields
                .next()?
                .split(',')
                .any(|member| member == name)
                .then_some(gid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\n\
        # no line\nalice:x:1001:1001:Alice,,,:/home/alice:/bin/zsh\nbroken:x:many:1:::\n";

    #[test]
    fn names_and_numbers() {
        let users = Users::parse(PASSWD);
        assert_eq!(users.name(0), Some("root"));
        assert_eq!(users.name(1001), Some("alice"));
        assert_eq!(users.name(7), None);
        assert_eq!(users.uid("alice"), Some(1001));
        assert_eq!(users.uid("toor"), Some(0));
        assert_eq!(users.uid("4242"), Some(4242));
        assert_eq!(users.uid("nobody-here"), None);
        assert_eq!(
            users.user(1001).map(|user| user.home.as_str()),
            Some("/home/alice")
        );
        assert_eq!(
            users.user(1001).map(|user| user.shell.as_str()),
            Some("/bin/zsh")
        );
    }

    #[test]
    fn groups() {
        let file = b"root:x:0:\nadm:x:4:alice,bob\naudio:x:29:bob\nsudo:x:27:alice\n";
        assert_eq!(supplementary_groups(file, "alice"), [4, 27]);
        assert!(supplementary_groups(file, "ali").is_empty());
    }
}

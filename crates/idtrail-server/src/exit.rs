//! What the process tells its caller when it ends.
//!
//! Scripts and monitoring act on these numbers, so they are part of the command line's interface: a number keeps
//! its meaning for ever. Everything that ends the process goes through [`Exit`]; nothing calls `std::process::exit`
//! elsewhere, because that would skip the release of locks and the flush of logs.

use std::process::ExitCode;

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, and where something was verified: everything holds.
    Ok = 0,
    /// What was verified has been changed since it was sealed.
    Tampered = 1,
    /// The command line could not be understood.
    Usage = 2,
    /// What was verified holds, but a part of it is missing or could not be asked for.
    Incomplete = 3,
    /// Nothing can be said: the data or the keys needed for the check could not be read.
    NotChecked = 4,
    /// A credential was refused.
    Auth = 5,
    /// The configuration is wrong.
    Config = 6,
    /// The installation works, but has a fault that `doctor` names.
    Unhealthy = 7,
    /// Reading or writing failed (`EX_IOERR` of sysexits.h).
    Io = 74,
}

impl Exit {
    /// Every outcome.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Tampered,
        Self::Usage,
        Self::Incomplete,
        Self::NotChecked,
        Self::Auth,
        Self::Config,
        Self::Unhealthy,
        Self::Io,
    ];

    /// Returns what the number means, for the documentation.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done; where something was verified, everything holds",
            Self::Tampered => "what was verified has been changed since it was sealed",
            Self::Usage => "the command line could not be understood, or something that it names is missing",
            Self::Incomplete => {
                "what was done or verified holds, but a part is missing, was refused or could not be asked for"
            }
            Self::NotChecked => "nothing can be said: what the check needs could not be read",
            Self::Auth => "a credential was refused",
            Self::Config => "the configuration is wrong",
            Self::Unhealthy => "the installation has a fault that `doctor` names",
            Self::Io => "reading, writing or a connection failed",
        }
    }

    /// Returns the number given to the operating system.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_published_ones() {
        let published = [
            (Exit::Ok, 0),
            (Exit::Tampered, 1),
            (Exit::Usage, 2),
            (Exit::Incomplete, 3),
            (Exit::NotChecked, 4),
            (Exit::Auth, 5),
            (Exit::Config, 6),
            (Exit::Unhealthy, 7),
            (Exit::Io, 74),
        ];
        assert_eq!(published.map(|(exit, _)| exit), Exit::ALL);
        for (exit, number) in published {
            assert_eq!(exit.number(), number, "{exit:?}");
        }
    }
}

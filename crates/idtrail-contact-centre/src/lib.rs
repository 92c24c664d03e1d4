//! A made-up contact centre, for demonstrations, tests and benchmarks of identity resolution.
//!
//! People live in households, share landlines and mailboxes, call from work through a switchboard, withhold their
//! number, mistype their mail address, are written down under a neighbour's account, and give up numbers that others
//! get. Everything comes from a seed; every interaction carries the person who really was there.
//!
//! What it must never do: use numbers, domains or names that could be anybody's. Phone numbers are in ranges that are
//! set aside for fiction or follow +999, mail domains are those of RFC 2606.

mod random;

use random::Random;

/// What the contact centre is like. Probabilities are 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// How many people.
    pub people: u32,
    /// How many days.
    pub days: u32,
    /// How many interactions a person has on average.
    pub interactions_mean: f64,
    /// The share of voice; half of the rest is mail, half is chat.
    pub voice: f64,
    /// The share of calls with a withheld number.
    pub withheld: f64,
    /// The share of calls through a switchboard.
    pub switchboard: f64,
    /// The share of mobile numbers that pass to somebody else.
    pub recycled: f64,
    /// The share of account numbers that are entered wrong and happen to be somebody else's.
    pub miskeyed: f64,
    /// The share of mail addresses that are typed wrong.
    pub mistyped: f64,
    /// The share of people with an account.
    pub accounts: f64,
    /// The share of households with a landline.
    pub landlines: f64,
    /// The share of households with a common mailbox.
    pub common_mailboxes: f64,
    /// The share of calls in which the account number is entered, by people who have one.
    pub account_entered: f64,
    /// The share of chats in which a mobile number is left for a call back, and confirmed by a message.
    pub callback: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            people: 20_000,
            days: 720,
            interactions_mean: 9.75,
            voice: 0.60,
            withheld: 0.08,
            switchboard: 0.04,
            recycled: 0.03,
            miskeyed: 0.004,
            mistyped: 0.01,
            accounts: 0.75,
            landlines: 0.35,
            common_mailboxes: 0.12,
            account_entered: 0.65,
            callback: 0.18,
        }
    }
}

/// How somebody got in touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A call.
    Voice,
    /// A mail.
    Mail,
    /// A chat.
    Chat,
}

/// A value that the contact centre saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// The number of a withheld call.
    Withheld,
    /// A mobile number.
    Mobile(u32),
    /// A household's landline.
    Landline(u32),
    /// A company's switchboard.
    Switchboard(u32),
    /// A person's mailbox.
    Mailbox(u32),
    /// A household's mailbox.
    CommonMailbox(u32),
    /// A mailbox with a slip of the keyboard; the second number tells slips apart.
    Mistyped(u32, u32),
    /// A person's account.
    Account(u32),
}

/// What kind of identifier a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A phone number.
    Phone,
    /// A mail address.
    Mail,
    /// An account number.
    Account,
}

impl Value {
    /// Returns what kind of identifier it is.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Withheld | Self::Mobile(_) | Self::Landline(_) | Self::Switchboard(_) => Kind::Phone,
            Self::Mailbox(_) | Self::CommonMailbox(_) | Self::Mistyped(..) => Kind::Mail,
            Self::Account(_) => Kind::Account,
        }
    }

    /// Returns the raw value as a source would send it.
    pub fn text(self) -> String {
        match self {
            Self::Withheld => "anonymous".to_owned(),
            Self::Mobile(n) => format!("+9991{n:08}"),
            Self::Landline(n) => format!("+9992{n:08}"),
            Self::Switchboard(n) => format!("+9993{n:08}"),
            Self::Mailbox(n) => format!("person{n}@example.com"),
            Self::CommonMailbox(n) => format!("family{n}@example.net"),
            Self::Mistyped(n, slip) => format!("persno{n}.{slip}@example.com"),
            Self::Account(n) => format!("crm:{n:09}"),
        }
    }
}

/// A value with how sure it was: 0 claimed, 1 shown by the network, 3 verified, 4 from a session that was logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The value.
    pub value: Value,
    /// The assurance.
    pub assurance: u8,
}

/// One interaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interaction {
    /// Counts from 0, in order of time.
    pub number: u32,
    /// When, milliseconds since 1970.
    pub time_ms: u64,
    /// How.
    pub channel: Channel,
    /// What was seen.
    pub sightings: Vec<Sighting>,
    /// Who it really was.
    pub person: u32,
}

struct Person {
    household: u32,
    /// Mobile numbers with the day from which each is used; none before the first.
    mobiles: Vec<(u32, f64)>,
    mailbox: bool,
    account: bool,
    workplace: u32,
}

struct Household {
    landline: bool,
    common_mailbox: bool,
}

/// 2024-01-01.
const START_MS: u64 = 1_704_067_200_000;
const DAY_MS: f64 = 86_400_000.0;
/// A switchboard for so many people.
const PEOPLE_PER_SWITCHBOARD: u32 = 400;

/// Returns all interactions of a contact centre, in order of time.
pub fn interactions(parameters: &Parameters, seed: u64) -> Vec<Interaction> {
    let mut random = Random::new(seed);
    let (mut people, households) = settle(parameters, &mut random);
    recycle(parameters, &mut people, &mut random);
    let mut all = Vec::new();
    for (number, person) in people.iter().enumerate() {
        // Some people call often and most seldom: the mean stays, the spread is that of an exponential.
        let rate = parameters.interactions_mean * -(1.0 - random.unit()).ln();
        let count = rate.floor() as u32 + u32::from(random.chance(rate.fract()));
        for _ in 0..count {
            let day = random.unit() * f64::from(parameters.days);
            let household = households.get(person.household as usize);
            let (channel, sightings) =
                get_in_touch(parameters, number as u32, person, household, day, &mut random);
            if sightings.is_empty() {
                continue;
            }
            let time_ms = START_MS + (day * DAY_MS) as u64;
            all.push(Interaction { number: 0, time_ms, channel, sightings, person: number as u32 });
        }
    }
    all.sort_by_key(|interaction| (interaction.time_ms, interaction.person));
    for (number, interaction) in all.iter_mut().enumerate() {
        interaction.number = number as u32;
    }
    all
}

/// Makes people and puts them into households.
fn settle(parameters: &Parameters, random: &mut Random) -> (Vec<Person>, Vec<Household>) {
    let mut people: Vec<Person> = Vec::new();
    let mut households: Vec<Household> = Vec::new();
    let switchboards = (parameters.people / PEOPLE_PER_SWITCHBOARD).max(1);
    while (people.len() as u32) < parameters.people {
        let size = match random.below(100) {
            0..40 => 1,
            40..72 => 2,
            72..87 => 3,
            87..96 => 4,
            _ => 5,
        };
        let household = households.len() as u32;
        households.push(Household {
            landline: random.chance(parameters.landlines),
            common_mailbox: size > 1 && random.chance(parameters.common_mailboxes),
        });
        for _ in 0..size {
            let number = people.len() as u32;
            let mobiles = if random.chance(0.93) { vec![(number, 0.0)] } else { Vec::new() };
            people.push(Person {
                household,
                mobiles,
                mailbox: random.chance(0.85),
                account: random.chance(parameters.accounts),
                workplace: random.below(switchboards),
            });
        }
    }
    (people, households)
}

/// Lets some mobile numbers pass to somebody else, after 45 to 180 days.
fn recycle(parameters: &Parameters, people: &mut [Person], random: &mut Random) {
    let count = people.len() as u32;
    for from in 0..count {
        if !random.chance(parameters.recycled) {
            continue;
        }
        let given_up = random.unit() * f64::from(parameters.days) * 0.75;
        let again = given_up + 45.0 + random.unit() * 135.0;
        let to = random.below(count);
        let Some(&(number, _)) = people.get(from as usize).and_then(|person| person.mobiles.first()) else {
            continue;
        };
        let untouched = |people: &[Person], at: u32| {
            people.get(at as usize).is_some_and(|person| person.mobiles.len() <= 1)
        };
        if from == to || !untouched(people, from) || !untouched(people, to) {
            continue;
        }
        // The first owner takes a new number, which nobody had.
        if let Some(person) = people.get_mut(from as usize) {
            person.mobiles.push((count + from, given_up));
        }
        if let Some(person) = people.get_mut(to as usize) {
            person.mobiles.push((number, again));
        }
    }
}

fn get_in_touch(
    parameters: &Parameters,
    number: u32,
    person: &Person,
    household: Option<&Household>,
    day: f64,
    random: &mut Random,
) -> (Channel, Vec<Sighting>) {
    let mut sightings = Vec::new();
    let mut see = |value, assurance| sightings.push(Sighting { value, assurance });
    let account = |random: &mut Random| {
        if random.chance(parameters.miskeyed) {
            Value::Account(random.below(parameters.people))
        } else {
            Value::Account(number)
        }
    };
    let mailbox = match household {
        Some(household) if household.common_mailbox && (!person.mailbox || random.chance(0.25)) => {
            Some(Value::CommonMailbox(person.household))
        }
        _ if person.mailbox => Some(Value::Mailbox(number)),
        _ => None,
    };
    let draw = random.unit();
    let rest = (1.0 - parameters.voice) / 2.0;
    let channel = match mailbox {
        Some(_) if draw >= parameters.voice + rest => Channel::Chat,
        Some(_) if draw >= parameters.voice => Channel::Mail,
        _ => Channel::Voice,
    };
    let typed = |random: &mut Random, mailbox: Value| match mailbox {
        Value::Mailbox(n) if random.chance(parameters.mistyped) => Value::Mistyped(n, random.below(1_000)),
        _ => mailbox,
    };
    let mobile = person.mobiles.iter().rev().find(|(_, from)| *from <= day);
    match (channel, mailbox) {
        (Channel::Mail, Some(mailbox)) => {
            see(typed(random, mailbox), 1);
            if person.account && random.chance(0.5) {
                see(account(random), 0);
            }
        }
        (Channel::Chat, Some(mailbox)) => {
            if person.account && random.chance(0.6) {
                // Logged in: account and address are those of the session.
                see(Value::Account(number), 4);
                see(mailbox, 4);
            } else {
                // The address is confirmed by a link before the chat begins.
                see(typed(random, mailbox), 1);
                if person.account && random.chance(0.3) {
                    see(account(random), 0);
                }
                if let Some(&(number, _)) = mobile.filter(|_| random.chance(parameters.callback)) {
                    see(Value::Mobile(number), 2);
                }
            }
        }
        _ => {
            let landline = household.is_some_and(|household| household.landline);
            let at_work = random.chance(parameters.switchboard);
            let caller = match mobile {
                _ if random.chance(parameters.withheld) => Some(Value::Withheld),
                _ if at_work => Some(Value::Switchboard(person.workplace)),
                Some(&(number, _)) if !landline || random.chance(0.75) => Some(Value::Mobile(number)),
                _ if landline => Some(Value::Landline(person.household)),
                Some(&(number, _)) => Some(Value::Mobile(number)),
                None => None,
            };
            if let Some(caller) = caller {
                see(caller, 1);
            }
            if person.account && random.chance(parameters.account_entered) {
                // One in five enters a secret number too.
                let assurance = if random.chance(0.2) { 3 } else { 0 };
                let entered = if assurance == 3 { Value::Account(number) } else { account(random) };
                see(entered, assurance);
            }
        }
    }
    (channel, sightings)
}

#[cfg(test)]
mod tests {
    use super::{Channel, Parameters, Value, interactions};

    #[test]
    fn a_seed_says_it_all_and_the_shares_are_as_asked() {
        let parameters = Parameters { people: 4_000, ..Parameters::default() };
        let all = interactions(&parameters, 7);
        assert_eq!(all, interactions(&parameters, 7));
        assert_ne!(all, interactions(&parameters, 8));
        assert!(all.is_sorted_by_key(|interaction| interaction.time_ms));
        let mean = all.len() as f64 / 4_000.0;
        assert!((9.0..10.5).contains(&mean), "mean {mean}");
        let calls = all.iter().filter(|one| one.channel == Channel::Voice).count() as f64;
        let with = |which: fn(&Value) -> bool| {
            all.iter().filter(|one| one.sightings.iter().any(|seen| which(&seen.value))).count() as f64
        };
        let withheld = with(|value| matches!(value, Value::Withheld)) / calls;
        assert!((0.06..0.10).contains(&withheld), "withheld {withheld}");
        let switchboard = with(|value| matches!(value, Value::Switchboard(_))) / calls;
        assert!((0.025..0.055).contains(&switchboard), "switchboard {switchboard}");
        assert!(with(|value| matches!(value, Value::Mistyped(..))) > 10.0);
    }
}

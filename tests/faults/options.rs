//! The command line of the fault tests.

use super::scenarios::{Effort, SCENARIOS};

/// The seed of a run that names none: always the same, so that a change is judged by what it
/// changes; a soak goes through others.
const SEED: u64 = 1;

pub struct Options {
    scenarios: Vec<String>,
    pub seed: u64,
    /// How long to go on with seed after seed, minutes.
    pub soak: Option<u64>,
    /// Whether a third of the cycles is enough.
    few: bool,
}

impl Options {
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { scenarios: Vec::new(), seed: SEED, soak: None, few: false };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().and_then(|value| value.parse().ok());
                value.ok_or_else(|| format!("{argument} needs a number"))
            };
            match argument.as_str() {
                "--seed" => options.seed = number()?,
                "--soak" => options.soak = Some(number()?),
                "--few" => options.few = true,
                // What `cargo test` hands to every test binary.
                "--nocapture" | "--quiet" => {}
                name if SCENARIOS.iter().any(|scenario| scenario.name == name) => {
                    options.scenarios.push(argument);
                }
                unknown => return Err(format!("{unknown} is unknown; scenarios:\n{}", list())),
            }
        }
        Ok(options)
    }

    pub fn wants(&self, scenario: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|wanted| wanted == scenario)
    }

    pub fn effort(&self) -> Effort {
        match self.soak {
            Some(_) => Effort::Soak,
            None if self.few => Effort::Few,
            None => Effort::Full,
        }
    }

    /// What plays one scenario again.
    pub fn command(&self, scenario: &str, seed: u64) -> String {
        let effort = match self.effort() {
            Effort::Few => " --few",
            Effort::Full => "",
            Effort::Soak => " --soak 0",
        };
        format!("cargo test --features faults --test faults -- {scenario} --seed {seed}{effort}")
    }
}

fn list() -> String {
    SCENARIOS.iter().map(|scenario| format!("  {:<22} {}\n", scenario.name, scenario.about)).collect()
}

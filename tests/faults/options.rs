//! The command line of the fault tests.

use super::scenarios::SCENARIOS;

/// The seed of a run that names none: always the same, so that a change is judged by what it
/// changes; a soak goes through others.
const SEED: u64 = 1;

pub struct Options {
    scenarios: Vec<String>,
    pub seed: u64,
    /// How long to go on with seed after seed, minutes.
    pub soak: Option<u64>,
}

impl Options {
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { scenarios: Vec::new(), seed: SEED, soak: None };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().and_then(|value| value.parse().ok());
                value.ok_or_else(|| format!("{argument} needs a number"))
            };
            match argument.as_str() {
                "--seed" => options.seed = number()?,
                "--soak" => options.soak = Some(number()?),
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

    /// What plays one scenario again.
    pub fn command(&self, scenario: &str, seed: u64) -> String {
        let soak = if self.soak.is_some() { " --soak 0" } else { "" };
        format!("cargo test --features faults --test faults -- {scenario} --seed {seed}{soak}")
    }
}

fn list() -> String {
    SCENARIOS.iter().map(|scenario| format!("  {:<22} {}\n", scenario.name, scenario.about)).collect()
}

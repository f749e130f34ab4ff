//! Which crate may use which: a crate imports only crates of lower floors, and some never see IO.

use std::process::Command;

use serde_json::Value;

use crate::Outcome;

/// A crate's floor, and dependencies it must not have.
struct Floor {
    name: &'static str,
    floor: u32,
    must_not: &'static [&'static str],
}

const NO_IO: &[&str] = &["tokio", "quinn", "hyper", "rustls", "socket2", "rustix", "tracing-subscriber"];
const GYRE: &[&str] =
    &["gyre-protocol", "gyre-h3", "gyre-core", "gyre-engine", "gyre-node", "gyre-transport", "gyre-server"];
const NO_TRANSPORT: &[&str] = &["hyper", "quinn", "rustls", "http"];

const FLOORS: &[Floor] = &[
    Floor { name: "gyre-protocol", floor: 0, must_not: NO_IO },
    Floor { name: "gyre-h3", floor: 0, must_not: NO_IO },
    Floor { name: "gyre-core", floor: 1, must_not: NO_IO },
    Floor { name: "gyre-engine", floor: 2, must_not: NO_TRANSPORT },
    Floor { name: "gyre-node", floor: 2, must_not: NO_TRANSPORT },
    Floor { name: "gyre-transport", floor: 3, must_not: &["clap", "serde_json", "toml"] },
    Floor { name: "gyre-server", floor: 4, must_not: &[] },
    Floor { name: "gyre-bench", floor: 3, must_not: GYRE },
    Floor { name: "gyre-testkit", floor: 3, must_not: NO_TRANSPORT },
];

/// Compares the table with what the manifests say.
pub(crate) fn check() -> Outcome {
    let output = Command::new("cargo").args(["metadata", "--format-version", "1", "--no-deps"]).output();
    let metadata: Value = match output.map(|output| serde_json::from_slice(&output.stdout)) {
        Ok(Ok(metadata)) => metadata,
        _ => return Outcome::Failed("cargo metadata cannot be read".into()),
    };
    let packages = metadata["packages"].as_array().map_or(&[][..], |packages| &packages[..]);
    let problems: Vec<String> = packages.iter().flat_map(problems).collect();
    match problems.is_empty() {
        true => Outcome::Passed,
        false => Outcome::Failed(problems.join("; ")),
    }
}

fn floor_of(name: &str) -> Option<&'static Floor> {
    FLOORS.iter().find(|floor| floor.name == name)
}

fn problems(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or("");
    if matches!(name, "xtask" | "gyre-fuzz") {
        return Vec::new();
    }
    let Some(own) = floor_of(name) else { return vec![format!("{name} has no floor in the table")] };
    let dependencies = package["dependencies"].as_array().map_or(&[][..], |dependencies| &dependencies[..]);
    // Dependencies of tests may be higher: they never reach users.
    let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
    let names = normal.filter_map(|dependency| dependency["name"].as_str());
    names
        .filter_map(|used| match floor_of(used) {
            Some(other) if other.floor >= own.floor => {
                Some(format!("{name} (floor {}) uses {used} (floor {})", own.floor, other.floor))
            }
            _ if own.must_not.contains(&used) => Some(format!("{name} must not use {used}")),
            _ => None,
        })
        .collect()
}

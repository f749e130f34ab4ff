//! The browser tests: a real Chromium and the unmodified `centrifuge` package against the real program, and its web interface
//! for admins.

use std::{path::Path, process::Command};

use crate::{Outcome, run, succeeds};

const FOLDER: &str = "tests/browser";

/// Installs what is missing through the ordinary package clients, builds the program and runs the test.
pub(crate) fn test() -> Outcome {
    if !succeeds("node", &["--version"]) {
        return Outcome::Skipped("Node.js is not installed".into());
    }
    let chromium = match chromium() {
        Some(path) => path,
        None => return Outcome::Skipped("Chromium is not installed, and cannot be by apt-get".into()),
    };
    let mut install = Command::new("npm");
    install
        .args(["install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"])
        .current_dir(FOLDER);
    if let failed @ Outcome::Failed(_) = run(&mut install) {
        return failed;
    }
    if let failed @ Outcome::Failed(_) = run(Command::new("cargo").args(["build", "--release"])) {
        return failed;
    }
    for script in ["test.mjs", "admin.mjs"] {
        let outcome = run(Command::new("node").arg(script).current_dir(FOLDER).env("CHROMIUM", chromium));
        if let Outcome::Failed(_) = outcome {
            return outcome;
        }
    }
    Outcome::Passed
}

/// Chromium's path, after an attempt to install it.
fn chromium() -> Option<&'static str> {
    const PATHS: [&str; 2] = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];
    let find = || PATHS.into_iter().find(|path| Path::new(path).exists());
    if find().is_none() {
        println!("installing Chromium");
        let is_updated = succeeds("apt-get", &["update", "-qq"]);
        let is_installed = is_updated && succeeds("apt-get", &["install", "-y", "-qq", "chromium"]);
        println!("apt-get: {}", if is_installed { "installed" } else { "failed" });
    }
    find()
}

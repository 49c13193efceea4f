//! `cargo xtask conformance TOPIC`: the tests of others, run unmodified against
//! the product. `nats`: those that a client library carries; they come from
//! crates.io when they are needed and are never committed; what they want of a
//! server is started by a small crate of ours in place of the one that they were
//! written with. [`compute`]: those of Python itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

mod compute;

use crate::command::{Trouble, cargo, product, root, run, target};
use crate::parts::{Count, Part};

/// What is run, and what is known not to pass.
const LIST: &str = "tests/conformance/nats.toml";
/// What starts servers for the tests.
const STARTER: &str = "tests/conformance/nats_server.rs";
/// Tests at the same time; each has servers of its own.
const AT_ONCE: &str = "--test-threads=4";
/// What only one of the crate's test files needs, and how little of it.
const FOR_SERVICES: &[(&str, &str, &[&str])] =
    &[("jsonschema", "0.17.1", &[]), ("reqwest", "0.11.18", &["json"])];
/// What the other test files need beside the crate itself.
const FOR_ALL: &[&str] = &["futures", "rand", "ring", "tokio", "tracing-subscriber"];

/// The share of it that every change has to pass.
pub(crate) struct Conformance;

impl Part for Conformance {
    fn name(&self) -> &'static str {
        "conformance"
    }

    fn run(&self) -> Result<Count, Trouble> {
        let mut count = Count::default();
        for score in [nats(None, true)?, compute::compute(None, true)?] {
            count.add(&Count {
                passed: score.of(Outcome::Passed).count() as u64,
                failed: score.surprises().count() as u64,
                report: score.report(),
            });
        }
        Ok(count)
    }
}

/// The file [`LIST`].
#[derive(Debug)]
struct List {
    package: String,
    version: String,
    files: Vec<String>,
    skipped: BTreeMap<String, String>,
    expected: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// How each test ended.
#[derive(Debug)]
struct Score {
    suite: &'static str,
    list: &'static str,
    outcomes: BTreeMap<String, Outcome>,
    expected: BTreeMap<String, String>,
    skipped: BTreeMap<String, String>,
    output: String,
}

impl Score {
    fn of(&self, wanted: Outcome) -> impl Iterator<Item = &String> {
        self.outcomes.iter().filter(move |(_, outcome)| **outcome == wanted).map(|(test, _)| test)
    }

    /// Tests that failed although nobody said so.
    fn surprises(&self) -> impl Iterator<Item = &String> {
        self.of(Outcome::Failed).filter(|test| !self.expected.contains_key(*test))
    }

    /// How many of those that ran passed, in per cent.
    fn share(&self) -> f64 {
        let (passed, failed) = (self.of(Outcome::Passed).count(), self.of(Outcome::Failed).count());
        #[expect(clippy::cast_precision_loss, reason = "a few hundred tests")]
        let share = 100.0 * passed as f64 / (passed + failed).max(1) as f64;
        share
    }

    /// Whether everything is as the list says.
    fn holds(&self) -> bool {
        self.of(Outcome::Passed).next().is_some() && self.surprises().next().is_none()
    }

    /// For people.
    fn report(&self) -> String {
        let mut report = String::new();
        for test in self.surprises() {
            // Writing to a string cannot fail.
            let _ = writeln!(report, "FAILED  {test}");
        }
        if self.surprises().next().is_some() {
            report.push_str(&failures(&self.output));
        }
        for (test, reason) in &self.expected {
            match self.outcomes.get(test) {
                Some(Outcome::Failed) => writeln!(report, "failed  {test}: {reason}"),
                Some(_) => writeln!(report, "passes  {test}: take it off {}", self.list),
                None => Ok(()),
            }
            .unwrap_or_default();
        }
        for (test, reason) in &self.skipped {
            if self.outcomes.contains_key(test) {
                let _ = writeln!(report, "skipped {test}: {reason}");
            }
        }
        let counts = [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(|kind| self.of(kind).count());
        let [passed, failed, skipped] = counts;
        let _ = writeln!(
            report,
            "{}: {passed} passed, {failed} failed, {skipped} skipped ({:.1} % of those run)",
            self.suite,
            self.share()
        );
        report
    }
}

/// Whether at least `wanted` per cent of the tests that can run here pass,
/// and the figure.
///
/// # Errors
/// They cannot be obtained or built.
pub(crate) fn verdict(wanted: f64) -> Result<(bool, String), Trouble> {
    let score = nats(None, false)?;
    let figure = score.report().lines().next_back().unwrap_or_default().to_owned();
    Ok((score.share() >= wanted && score.holds(), figure))
}

/// How the tests of a promise ended.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    /// Failed, and the list says why.
    pub(crate) explained: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// Runs all tests of the executor; for each promise, how those ended whose
/// names begin as it says.
///
/// # Errors
/// They cannot be obtained or run.
pub(crate) fn tallies(
    promises: &'static [(&'static str, &'static [&'static str])],
) -> Result<Vec<(&'static str, Tally)>, Trouble> {
    let score = compute::compute(None, false)?;
    let tally = |begins: &[&str]| {
        let mut tally = Tally::default();
        let tests =
            score.outcomes.iter().filter(|(test, _)| begins.iter().any(|word| test.starts_with(word)));
        for (test, outcome) in tests {
            match outcome {
                Outcome::Passed => tally.passed += 1,
                Outcome::Skipped => tally.skipped += 1,
                Outcome::Failed if score.expected.contains_key(test) => tally.explained += 1,
                Outcome::Failed => tally.failed += 1,
            }
        }
        tally
    };
    Ok(promises.iter().map(|(name, begins)| (*name, tally(begins))).collect())
}

/// Runs the tests and prints how they ended; whether that is as the list says.
pub(crate) fn report(topic: &str, only: Option<&str>, share: bool) -> bool {
    let score = if topic == "compute" { compute::compute(only, share) } else { nats(only, share) };
    match score {
        Ok(score) => {
            print!("{}", score.report());
            score.holds()
        }
        Err(trouble) => {
            eprintln!("{trouble}");
            false
        }
    }
}

/// Runs the tests whose name holds `only`, or the share that every change has
/// to pass.
///
/// # Errors
/// They cannot be obtained or built.
fn nats(only: Option<&str>, share: bool) -> Result<Score, Trouble> {
    let list = List::read(share)?;
    let home = target().join("conformance").join("nats");
    std::fs::create_dir_all(&home).map_err(Trouble::at(home.display().to_string()))?;
    let program = link(&home)?;
    let package = obtain(&list, &home)?;
    let mut score = Score {
        suite: "async-nats",
        list: LIST,
        outcomes: BTreeMap::new(),
        expected: list.expected.clone(),
        skipped: list.skipped.clone(),
        output: String::new(),
    };
    for test in
        list.skipped.keys().filter(|test| list.files.iter().any(|file| test.starts_with(file.as_str())))
    {
        score.outcomes.insert(test.clone(), Outcome::Skipped);
    }
    for file in &list.files {
        run_file(&list, file, only, &package, &program, &mut score)?;
    }
    Ok(score)
}

fn run_file(
    list: &List,
    file: &str,
    only: Option<&str>,
    package: &Path,
    program: &Path,
    score: &mut Score,
) -> Result<(), Trouble> {
    let manifest = package.join("Cargo.toml").display().to_string();
    let mut cargo = cargo(&["test", "--quiet", "--manifest-path", &manifest, "--test", file, "--"]);
    cargo.args(["--format", "pretty", AT_ONCE]).args(only);
    for test in list.skipped.keys().filter_map(|test| test.strip_prefix(file)?.strip_prefix(' ')) {
        cargo.args(["--skip", test]);
    }
    cargo.env("CARGO_TARGET_DIR", package.with_file_name("built")).env("NATS_SERVER", program);
    // Their servers' ports and files are relative to the crate.
    cargo.current_dir(package);
    let finished = run(&mut cargo, Duration::from_mins(20))?;
    let mut ran = 0;
    for (test, passed) in results(&finished.output) {
        ran += 1;
        let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
        score.outcomes.insert(format!("{file} {test}"), outcome);
    }
    if ran == 0 && only.is_none() {
        return Err(Trouble::Unexpected(format!("no test of {file} ran:\n{}", finished.tail(60))));
    }
    score.output.push_str(&finished.output);
    Ok(())
}

/// `test client::request ... ok`, line by line; what a test prints may stand
/// in between.
fn results(output: &str) -> Vec<(String, bool)> {
    let mut results = Vec::new();
    for line in output.lines() {
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            continue;
        };
        match outcome.trim() {
            "ok" => results.push((name.to_owned(), true)),
            outcome if outcome.ends_with("FAILED") => results.push((name.to_owned(), false)),
            _ => {}
        }
    }
    results
}

/// What tests that failed said.
fn failures(output: &str) -> String {
    let kept = output.lines().skip_while(|line| *line != "failures:");
    kept.take(200).collect::<Vec<_>>().join("\n") + "\n"
}

impl List {
    fn read(share: bool) -> Result<Self, Trouble> {
        let text = std::fs::read_to_string(root().join(LIST)).map_err(Trouble::at(LIST))?;
        let table: Table = text.parse().map_err(|error| Trouble::Unexpected(format!("{LIST}: {error}")))?;
        let text = |key: &str| table.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let files = table.get(if share { "share" } else { "files" }).and_then(Value::as_array);
        let files = files.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        Ok(Self {
            package: text("crate"),
            version: text("version"),
            files: files.collect(),
            skipped: reasons(&table, "skipped"),
            expected: reasons(&table, "expected"),
        })
    }
}

fn reasons(table: &Table, key: &str) -> BTreeMap<String, String> {
    let entries = table.get(key).and_then(Value::as_array).into_iter().flatten();
    let pair = |entry: &Value| {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        Some((text("test")?, text("reason")?))
    };
    entries.filter_map(pair).collect()
}

/// The product under the name that makes it a nats-server.
fn link(home: &Path) -> Result<PathBuf, Trouble> {
    let folder = home.join("bin");
    std::fs::create_dir_all(&folder).map_err(Trouble::at(folder.display().to_string()))?;
    let link = folder.join("nats-server");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(product()?, &link).map_err(Trouble::at(link.display().to_string()))?;
    Ok(link)
}

/// The crate with its tests, ready to be built.
fn obtain(list: &List, home: &Path) -> Result<PathBuf, Trouble> {
    let source = source(list, home)?;
    let package = home.join(&list.package);
    copy(&source, &package)?;
    let starter = home.join("nats-server");
    let write = |path: PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap_or(home))
            .and_then(|()| std::fs::write(&path, text))
            .map_err(Trouble::at(path.display().to_string()))
    };
    let text = std::fs::read_to_string(root().join(STARTER)).map_err(Trouble::at(STARTER))?;
    write(starter.join("src/lib.rs"), &text)?;
    write(
        starter.join("Cargo.toml"),
        "[package]\nname = \"nats-server\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n",
    )?;
    let manifest = std::fs::read_to_string(source.join("Cargo.toml"))
        .map_err(Trouble::at(source.display().to_string()))?;
    let services = list.files.iter().any(|file| file == "service_tests");
    write(package.join("Cargo.toml"), &manifest_for(&manifest, services)?)?;
    Ok(package)
}

/// Where cargo has unpacked the crate.
fn source(list: &List, home: &Path) -> Result<PathBuf, Trouble> {
    let asking = home.join("asking");
    let failed = || Trouble::at(asking.display().to_string());
    std::fs::create_dir_all(&asking).map_err(failed())?;
    let (name, version) = (&list.package, &list.version);
    let manifest = format!(
        "[package]\nname = \"asking\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n\
         [dependencies]\n{name} = {{ version = \"={version}\", default-features = false, features = [\"ring\"] }}\n\
         [workspace]\n"
    );
    std::fs::write(asking.join("Cargo.toml"), manifest).map_err(failed())?;
    std::fs::write(asking.join("lib.rs"), "").map_err(failed())?;
    let mut cargo = cargo(&["metadata", "--quiet", "--format-version", "1"]);
    let text = run(cargo.current_dir(&asking), Duration::from_mins(5))?.required()?;
    let wrong = || Trouble::Unexpected(format!("cargo does not say where {name} {version} is"));
    let json = text.lines().find(|line| line.starts_with('{')).ok_or_else(wrong)?;
    let metadata: serde_json::Value = serde_json::from_str(json).map_err(|_| wrong())?;
    let packages = metadata["packages"].as_array().ok_or_else(wrong)?;
    let found = packages.iter().find(|package| package["name"] == name.as_str()).ok_or_else(wrong)?;
    let manifest = PathBuf::from(found["manifest_path"].as_str().ok_or_else(wrong)?);
    manifest.parent().map(Path::to_owned).ok_or_else(wrong)
}

/// Copies the crate. Private keys become their owner's alone, without which
/// the product does not take them.
fn copy(from: &Path, to: &Path) -> Result<(), Trouble> {
    use std::os::unix::fs::PermissionsExt;
    let failed = || Trouble::at(from.display().to_string());
    std::fs::create_dir_all(to).map_err(failed())?;
    for entry in std::fs::read_dir(from).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &copied)?;
            continue;
        }
        let text = std::fs::read(&path).map_err(failed())?;
        if std::fs::read(&copied).is_ok_and(|known| known == text) {
            continue;
        }
        std::fs::write(&copied, text).map_err(failed())?;
        if path.extension().is_some_and(|extension| extension == "pem") {
            std::fs::set_permissions(&copied, std::fs::Permissions::from_mode(0o600)).map_err(failed())?;
        }
    }
    Ok(())
}

/// The crate's manifest with our starter of servers, without benchmarks and
/// examples, and without what only they need.
fn manifest_for(text: &str, services: bool) -> Result<String, Trouble> {
    let mut manifest: Table =
        text.parse().map_err(|error| Trouble::Unexpected(format!("the crate's manifest: {error}")))?;
    for key in ["bench", "example"] {
        manifest.remove(key);
    }
    if let Some(package) = manifest.get_mut("package").and_then(Value::as_table_mut) {
        package.insert("autoexamples".into(), false.into());
        package.insert("autobenches".into(), false.into());
    }
    let kept: BTreeSet<&str> = FOR_ALL.iter().copied().collect();
    if let Some(dependencies) = manifest.get_mut("dev-dependencies").and_then(Value::as_table_mut) {
        dependencies.retain(|name, _| kept.contains(name));
        let mut starter = Table::new();
        starter.insert("path".into(), "../nats-server".into());
        dependencies.insert("nats-server".into(), starter.into());
        for (name, version, features) in FOR_SERVICES.iter().filter(|_| services) {
            let mut wanted = Table::new();
            wanted.insert("version".into(), (*version).into());
            wanted.insert("default-features".into(), false.into());
            wanted.insert("features".into(), features.to_vec().into());
            dependencies.insert((*name).into(), wanted.into());
        }
    }
    manifest.insert("workspace".into(), Table::new().into());
    toml::to_string(&manifest).map_err(|error| Trouble::Unexpected(format!("the crate's manifest: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{manifest_for, results};

    #[test]
    fn results_are_read_line_by_line() {
        let output = "running 3 tests\ntest a::b ... ok\nnoise\ntest a::c ... FAILED\ntest d ... ignored\n";
        assert_eq!(results(output), [("a::b".to_owned(), true), ("a::c".to_owned(), false)]);
    }

    #[test]
    fn the_manifest_keeps_what_the_tests_need() {
        let text = "[package]\nname = \"x\"\n[dev-dependencies.ring]\nversion = \"0.17\"\n\
                    [dev-dependencies.criterion]\nversion = \"1\"\n[[bench]]\nname = \"b\"\n";
        let small = manifest_for(text, false).expect("a manifest");
        assert!(small.contains("nats-server") && small.contains("ring"), "{small}");
        assert!(!small.contains("criterion") && !small.contains("[[bench]]") && !small.contains("reqwest"));
        assert!(manifest_for(text, true).expect("a manifest").contains("reqwest"));
    }
}

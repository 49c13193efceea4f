//! The README's two commands.

use std::time::{Duration, Instant};

use super::Line;
use crate::command::{Trouble, command, product, root, run};
use crate::servers::folder;

/// `trine demo` on its default input, with its own checks.
pub(super) fn demo() -> Result<Vec<Line>, Trouble> {
    let trine = product()?;
    let begin = Instant::now();
    let finished = run(&mut command(trine, &["demo"]), Duration::from_mins(10))?;
    let seconds = begin.elapsed().as_secs();
    let figure = format!("{seconds} s\n{}", finished.tail(if finished.success { 30 } else { 60 }));
    Ok(vec![Line::of(finished.success, "demo on its default input", figure)])
}

/// Both commands in a fresh clone with nothing built.
pub(super) fn from_a_clean_clone() -> Result<Vec<Line>, Trouble> {
    let folder = folder("clone")?;
    let place = folder.path().join("trine");
    let place_text = place.display().to_string();
    let source = root().display().to_string();
    run(&mut command("git", &["clone", "--quiet", &source, &place_text]), Duration::from_mins(2))?
        .required()?;
    let mut lines = Vec::new();
    let commands: [(&str, &[&str]); 2] = [
        ("cargo run --release -- demo, from a clean clone", &["run", "--quiet", "--release", "--", "demo"]),
        ("cargo xtask test, from a clean clone", &["xtask", "test"]),
    ];
    for (name, words) in commands {
        let begin = Instant::now();
        let mut cargo = command("cargo", words);
        cargo.current_dir(&place).env("CARGO_TARGET_DIR", place.join("target"));
        let finished = run(&mut cargo, Duration::from_mins(90))?;
        let figure = format!("{} s, {}", begin.elapsed().as_secs(), finished.tail(1));
        lines.push(Line::of(finished.success, name, figure));
    }
    Ok(lines)
}

//! Tells the program which burn it was linked with: the lock file knows.
fn main() {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let version = lock
        .split("[[package]]")
        .find(|entry| entry.contains("name = \"burn\""))
        .and_then(|entry| entry.lines().find(|line| line.starts_with("version")))
        .and_then(|line| line.split('"').nth(1))
        .unwrap_or("unknown");
    println!("cargo:rustc-env=BURN_VERSION={version}");
    println!("cargo:rerun-if-changed=Cargo.lock");
}

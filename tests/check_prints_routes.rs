//! What `unanimous check` prints, held against golden files; `SNAPSHOTS=overwrite` writes them anew.

use std::path::PathBuf;

use snapbox::{assert_data_eq, file};
use unanimous::cli::check::{Args, CheckError, Format, run};

fn check(config: &str, format: Format) -> Result<String, CheckError> {
    let mut out = Vec::new();
    run(&Args { config: PathBuf::from(config), format }, &mut out, &mut Vec::new())?;
    Ok(String::from_utf8(out).expect("text"))
}

#[test]
fn a_fine_configuration_is_printed_as_a_table_in_order_of_precedence() {
    let printed = check("tests/config_sample.toml", Format::Table).unwrap();
    assert_data_eq!(printed, file!["check_golden/sample.txt"].raw());
}

#[test]
fn a_fine_configuration_is_printed_as_one_object_a_line() {
    let printed = check("tests/config_sample.toml", Format::Json).unwrap();
    assert_data_eq!(printed, file!["check_golden/sample.jsonl"].raw());
}

#[test]
fn a_bad_configuration_is_refused_with_every_mistake() {
    let refused = check("tests/check_golden/bad.toml", Format::Table).unwrap_err();
    assert!(matches!(refused, CheckError::Config(_)));
    assert_data_eq!(format!("{refused}\n"), file!["check_golden/bad.txt"].raw());
}

//! What is taken for signed, by keys made for the test.

use super::*;
use std::fs;

const TEXT: &str = "Suite: stable\n- a line with a dash\nSHA256:\n 00 1 main/x";

fn signed() -> String {
    format!(
        "{BEGIN}\nHash: SHA512\n\n{}\n{SIGNATURE}\n\nabcd\n{END}\n",
        TEXT.replace("\n- ", "\n- - ")
    )
}

fn variables(pairs: &[(&str, &str)]) -> Variables {
    let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Variables(pairs.collect())
}

#[test]
fn only_what_stands_between_the_marks_is_taken() {
    let parts = split(&signed()).unwrap();
    assert_eq!(parts.text, TEXT);
    assert!(parts.signature.contains("abcd") && parts.signature.ends_with(&format!("{END}\n")));
    for odd in [
        format!("more\n{}", signed()),
        format!("{}more\n", signed()),
        signed().replace("Hash: SHA512", "Note: x"),
        signed().replace(SIGNATURE, ""),
        signed().replace(END, ""),
        TEXT.to_owned(),
    ] {
        assert_eq!(split(&odd), None, "{odd}");
    }
}

#[test]
fn only_a_folder_may_be_unsigned() {
    let none = variables(&[]);
    assert_eq!(verified(TEXT, "file:///mirror/InRelease", &none).unwrap(), TEXT);
    let failure = verified(TEXT, "https://mirror.test/InRelease", &none).unwrap_err();
    assert!(failure.cause.contains("is not signed"), "{failure:?}");
    let cut = signed().replace(END, "");
    assert!(verified(&cut, "file:///mirror/InRelease", &none).is_err());
    let failure = verified(&signed(), "https://a.test", &variables(&[(SETTING, "/nowhere.gpg")])).unwrap_err();
    assert!(
        failure.cause.contains("/nowhere.gpg (BP_DEBIAN_KEYRING) is not there"),
        "{failure:?}"
    );
}

/// Public half of the key that signed [`SIGNED`], made for this test; nobody has the other half.
const ARCHIVE: &str = "\
    mDMEZZIAgBYJKwYBBAHaRw8BAQdA2O9OMXY+8OPXP/fw7ER4VvXN47WF58n/zY6nWdg9Ura0B2FyY2hpdmWIkAQTFggAOBYh\
    BLvYUbRL+AZfZ3qWiy6ELkQb0w0DBQJlkgCAAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEC6ELkQb0w0DNjUBAP07\
    j+6D/i5PolUP1/nz4huFB7CsuRGnr/wLLlF7Dp6bAP9W4DjSir0pcY2eEwNO5ryVYBzxvb5fVklBcjkN3TNcDg==";
/// Of another key.
const OTHER: &str = "\
    mDMEZZIAgBYJKwYBBAHaRw8BAQdAQUdpFSZWAhvQ2l7RRO9FE/hPW9RfB6ppIHDiYVd/uJu0BW90aGVyiJAEExYIADgWIQQ2\
    oaALmNh5xBikAO8+aTM7pZZ+nQUCZZIAgAIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRA+aTM7pZZ+ndZRAQDj9ypI\
    27WMLVpSEUms+XVVze/IMDCaWHon9HIN51IUjQD+KK2fcdZ+qk+ADkVLPC8SqQHVA53iabiJVxEjTkYKAQs=";
/// [`TEXT`] as the key signed it, with blanks at the end of a line, which are no part of what is signed.
const SIGNED: &str = "\
-----BEGIN PGP SIGNED MESSAGE-----\n\
Hash: SHA512\n\
\n\
Suite: stable\n\
- - a line with a dash  \n\
SHA256:\n\
\x2000 1 main/x\n\
-----BEGIN PGP SIGNATURE-----\n\
\n\
iHUEARYKAB0WIQS72FG0S/gGX2d6losuhC5EG9MNAwUCZZIAgAAKCRAuhC5EG9MN\n\
A5JGAQC8z80UFhExSmdCMw2vIg3wo15Xy9YN3mUKM2l24koqdgD+LqbMrxKRrUVe\n\
JwcCGkA1M68OCNSFJFZtaO13lggheA4=\n\
=64GO\n\
-----END PGP SIGNATURE-----\n\
";

#[test]
fn a_signature_counts_when_a_trusted_key_made_it() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().unwrap();
    let ring = |name: &str, key: &str| {
        let path = folder.path().join(name);
        fs::write(&path, base64::engine::general_purpose::STANDARD.decode(key).unwrap()).unwrap();
        path
    };
    let (archive, other) = (ring("archive.gpg", ARCHIVE), ring("other.gpg", OTHER));
    let trusting = |keys: &Path| variables(&[(SETTING, keys.to_str().unwrap())]);
    let url = "https://a.test/InRelease";
    assert_eq!(verified(SIGNED, url, &trusting(&archive)).unwrap(), TEXT);
    let failure = verified(SIGNED, url, &trusting(&other)).unwrap_err();
    assert!(
        failure.cause.contains("is not among those that are trusted"),
        "{failure:?}"
    );
    assert!(failure.remedy.contains("debian-archive-keyring"), "{failure:?}");
    let changed = SIGNED.replace("Suite: stable", "Suite: other");
    let failure = verified(&changed, "file:///mirror/InRelease", &trusting(&archive)).unwrap_err();
    assert!(
        failure.cause.contains("it was changed after it was signed"),
        "{failure:?}"
    );
}

//! Which live source does the user name, and how is it shown without its credentials?

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::LiveKind;

/// Network streams that are read, by scheme.
const SCHEMES: [&str; 3] = ["rtsp", "rtsps", "udp"];
/// What stands for a part that is not shown.
const HIDDEN: &str = "…";

/// Text that may hold a password; it never shows itself.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// A live source that is named with `--data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What it is.
    pub kind: LiveKind,
    /// As it was given.
    pub whole: Secret,
}

impl Address {
    /// The live source that this names; `None`: it is a path.
    pub fn of(path: &Path) -> Option<Result<Address, String>> {
        let text = path.to_string_lossy();
        let kind = match &*text {
            "-" => LiveKind::Pipe,
            camera if is_camera(camera) => LiveKind::Camera,
            url => match url.split_once("://")?.0.to_ascii_lowercase() {
                scheme if SCHEMES.contains(&scheme.as_str()) => LiveKind::Stream,
                _ => {
                    return Some(Err(format!(
                        "{}: live sources are {}://…, /dev/videoN and `-` (frames on a pipe); let ffmpeg read others: \
                         `ffmpeg -i … -f image2pipe -c:v ppm - | jetbench --data - …`",
                        shown(url),
                        SCHEMES.join("://…, ")
                    )));
                }
            },
        };
        Some(Ok(Address { kind, whole: Secret(text.into_owned()) }))
    }

    /// The address without credentials.
    pub fn shown(&self) -> String {
        self.whole.shown()
    }
}

impl Secret {
    /// The address without credentials.
    pub fn shown(&self) -> String {
        shown(&self.0)
    }

    /// A text in which this address, as it was given, is shown without credentials.
    pub fn hide_in(&self, text: &str) -> String {
        if self.0.contains("://") { text.replace(&self.0, &self.shown()) } else { text.to_string() }
    }

    /// What another program says of this address, without its credentials in any form.
    pub fn redact(&self, text: &str) -> String {
        let mut clean = self.hide_in(text);
        let (user, query) = parts(&self.0);
        let password = user.and_then(|u| u.split_once(':')).map(|(_, password)| password);
        for secret in [user, password, query].into_iter().flatten().filter(|secret| !secret.is_empty()) {
            clean = clean.replace(secret, HIDDEN);
        }
        clean
    }
}

fn is_camera(text: &str) -> bool {
    let number = text.strip_prefix("/dev/video");
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) || text.starts_with("/dev/v4l/")
}

/// What of an address may hold credentials: user and password; and everything from the first `?` on, or from the first part of the
/// path that says `name=value`, as some cameras have it.
fn parts(url: &str) -> (Option<&str>, Option<&str>) {
    let Some((_, rest)) = url.split_once("://") else { return (None, None) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    let plain = path.split(['?', '#']).next().unwrap_or_default();
    let spoken = plain.find('=').map(|at| plain[..at].rfind('/').map_or(0, |slash| slash + 1));
    let from = [path.find(['?', '#']), spoken].into_iter().flatten().min();
    (user, from.map(|from| &path[from..]))
}

fn shown(url: &str) -> String {
    let (user, query) = parts(url);
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    let rest = user.map_or(rest, |user| &rest[user.len() + 1..]);
    match query {
        Some(query) => format!("{scheme}://{}{HIDDEN}", &rest[..rest.len() - query.len()]),
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_from_paths() {
        let kind = |text: &str| Address::of(Path::new(text)).map(|address| address.map(|a| a.kind));
        assert_eq!(kind("-"), Some(Ok(LiveKind::Pipe)));
        assert_eq!(kind("/dev/video0"), Some(Ok(LiveKind::Camera)));
        assert_eq!(kind("/dev/v4l/by-id/usb-cam"), Some(Ok(LiveKind::Camera)));
        for stream in ["rtsp://cam/1", "RTSPS://cam", "udp://@239.0.0.1:5000"] {
            assert_eq!(kind(stream), Some(Ok(LiveKind::Stream)), "{stream}");
        }
        for path in ["clips", "/dev/videos", "/dev/video", "a:/b", "./-"] {
            assert_eq!(kind(path), None, "{path}");
        }
        let other = kind("http://user:secret@cam/x").unwrap().unwrap_err();
        assert!(other.starts_with("http://cam/x: live sources are rtsp://…, ") && !other.contains("secret"), "{other}");
    }

    #[test]
    fn credentials_are_neither_shown_nor_left_in_messages() {
        for (whole, plain) in [
            ("rtsp://admin:hunter2@10.0.0.9:554/live/ch0", "rtsp://10.0.0.9:554/live/ch0"),
            ("rtsp://admin:p@ss@cam/live?x=hunter2", "rtsp://cam/live…"),
            ("rtsp://cam/user=admin&password=hunter2&channel=1", "rtsp://cam/…"),
            ("rtsp://cam/live/token=hunter2/a", "rtsp://cam/live/…"),
            ("udp://127.0.0.1:5000", "udp://127.0.0.1:5000"),
            ("rtsp://cam", "rtsp://cam"),
        ] {
            let address = Address::of(Path::new(whole)).unwrap().unwrap();
            assert_eq!(address.shown(), plain);
            let said = address.whole.redact(&format!("[rtsp] {whole}: 401; password hunter2 of {whole} was wrong"));
            assert!(said.contains(plain), "{said}");
            if whole.contains("hunter2") && plain != whole {
                assert!(!said.contains(&whole[7..]), "{said}");
            }
            assert_eq!(format!("{:?}", address.whole), "…");
        }
        let address = Address::of(Path::new("rtsp://admin:hunter2@cam/a")).unwrap().unwrap();
        assert_eq!(address.whole.redact("user admin:hunter2, hunter2"), "user …, …");
        let words = ["--data=rtsp://admin:hunter2@cam/a", "--out=/home/admin"].map(|word| address.whole.hide_in(word));
        assert_eq!(words, ["--data=rtsp://cam/a", "--out=/home/admin"], "other words of a command line stay");
    }
}

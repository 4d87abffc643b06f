//! `jetbench prompt`: a page on which one clicks on objects or draws boxes around them, and which saves a prompt file. One static file
//! beside the footage, with the frame in it: no server, no network.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jetbench_runners::files;
use serde_json::json;

use crate::cli::PromptArgs;
use crate::dataset::{Still, still};
use crate::exit::{Error, Outcome};
use crate::report::png;
use crate::results::store;
use crate::text::shell_word;

/// The page; `@FOOTAGE@` is replaced by what is known of the footage.
const PAGE: &str = include_str!("prompt/page.html");
/// By this a page is known for one of ours, which may be replaced.
const MARK: &str = "<!-- jetbench prompt page -->";

/// Writes the page.
///
/// # Errors
/// No footage, no such video or frame, a file in the place of the page that is no such page.
pub fn prompt(args: &PromptArgs) -> Result<Outcome, Error> {
    let still = still(&args.file, args.video.as_deref(), args.frame)?;
    let path = args.out.clone().unwrap_or_else(|| beside(&args.file, &still.video));
    let free = match std::fs::symlink_metadata(&path) {
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        Ok(there) => there.is_file() && files::read_text(&path, files::LARGE).is_ok_and(|text| text.contains(MARK)),
    };
    if !free {
        return Err(Error::Usage(format!(
            "{}: it is there and no page of `jetbench prompt`; choose another with --out",
            path.display()
        )));
    }
    let page = page(&args.file, &still)?;
    let fault =
        |e: std::io::Error| Error::Environment(format!("cannot write {}: {e}{}", path.display(), store::remedy(&e)));
    store::write_atomic(&path, page.as_bytes()).map_err(fault)?;
    let shown = path.display();
    Ok(Outcome::ok(format!(
        "{shown}\nOpen it in a browser, click, save; then: jetbench --models MODEL --data {} --prompts {}\n",
        shell_word(&args.file.display().to_string()),
        file_name(&still.video)
    )))
}

/// The page of a frame.
fn page(root: &Path, still: &Still) -> Result<String, Error> {
    let image = png::encode(&still.image).map_err(|e| Error::Failed(format!("the frame cannot be written: {e}")))?;
    let footage = json!({
        "video": still.video,
        "several": still.videos > 1,
        "frame": still.frame,
        "width": still.image.width,
        "height": still.image.height,
        "data": shell_word(&root.display().to_string()),
        "file": file_name(&still.video),
        "image": format!("data:image/png;base64,{}", BASE64_STANDARD.encode(image)),
    });
    // Within a script element only `<` could end it.
    Ok(PAGE.replacen("@FOOTAGE@", &footage.to_string().replace('<', "\\u003c"), 1))
}

/// Name of the file that the page saves.
fn file_name(video: &str) -> String {
    format!("{video}.prompts.json")
}

/// `clip.prompts.html` beside `clip.mp4` or `clip/`.
fn beside(root: &Path, video: &str) -> PathBuf {
    let real = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    real.parent().unwrap_or(Path::new(".")).join(format!("{video}.prompts.html"))
}

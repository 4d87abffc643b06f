//! Prompts as they are typed: `obj=1 320,180 40,60,-` and `obj=1 100,80,260,300`.

use jetbench_runners::types::{Click, PromptShape};

use super::{FrameName, UserPrompt};

/// How clicks are written.
const CLICKS: &str = "expected obj=NAME [frame=N] [video=NAME] x,y[,+|-] …, for example \"obj=1 320,180 40,60,-\"";
/// How a box is written.
const BOX: &str = "expected obj=NAME [frame=N] [video=NAME] x0,y0,x1,y1, for example \"obj=1 100,80,260,300\"";

/// The words before the places.
struct Head<'a> {
    object: String,
    frame: FrameName,
    video: Option<String>,
    places: Vec<&'a str>,
}

/// Clicks of one object on one frame.
///
/// # Errors
/// What is wrong, and how it is written.
pub(super) fn clicks(text: &str) -> Result<UserPrompt, String> {
    let head = head(text, CLICKS)?;
    let click = |place: &&str| -> Result<Click, String> {
        let wrong = || format!("`{place}` is no click; {CLICKS}");
        let mut parts = place.split(',');
        let mut number = || parts.next().and_then(number).ok_or_else(wrong);
        let (x, y) = (number()?, number()?);
        let positive = match (parts.next(), parts.next()) {
            (None | Some("+"), None) => true,
            (Some("-"), None) => false,
            _ => return Err(wrong()),
        };
        Ok(Click { x, y, positive })
    };
    let clicks = head.places.iter().map(click).collect::<Result<Vec<_>, _>>()?;
    match clicks.is_empty() {
        true => Err(format!("no click; {CLICKS}")),
        false => Ok(UserPrompt {
            video: head.video,
            object: head.object,
            frame: head.frame,
            shape: PromptShape::Points(clicks),
        }),
    }
}

/// The box of one object on one frame.
///
/// # Errors
/// As [`clicks`].
pub(super) fn corners(text: &str) -> Result<UserPrompt, String> {
    let head = head(text, BOX)?;
    let [place] = head.places.as_slice() else {
        return Err(format!("{} boxes; {BOX}", head.places.len()));
    };
    let corners: Option<Vec<f32>> = place.split(',').map(number).collect();
    let corners =
        corners.and_then(|c| <[f32; 4]>::try_from(c).ok()).ok_or_else(|| format!("`{place}` is no box; {BOX}"))?;
    Ok(UserPrompt { video: head.video, object: head.object, frame: head.frame, shape: PromptShape::Bbox(corners) })
}

fn head<'a>(text: &'a str, form: &str) -> Result<Head<'a>, String> {
    let (mut object, mut frame, mut video, mut places) = (None, None, None, Vec::new());
    for (at, word) in text.split_whitespace().enumerate() {
        let twice = |there: bool| if there { Err(format!("`{word}`: said twice")) } else { Ok(()) };
        match word.split_once('=') {
            Some(("obj" | "object", name)) => {
                twice(object.is_some())?;
                object = Some(name.to_string());
            }
            Some(("frame", n)) => {
                twice(frame.is_some())?;
                let number = n.parse::<usize>();
                frame = Some(number.map_err(|_| format!("`{word}`: frames are counted from 0"))?);
            }
            Some(("video", name)) => {
                twice(video.is_some())?;
                video = Some(name.to_string());
            }
            Some((key, _)) => return Err(format!("`{key}` is unknown; {form}")),
            // The short form: the first word alone names the object.
            None if at == 0 && !word.contains(',') => object = Some(word.to_string()),
            None => places.push(word),
        }
    }
    let object = object.ok_or_else(|| format!("no object is named; {form}"))?;
    Ok(Head { object, frame: FrameName::Index(frame.unwrap_or(0)), video, places })
}

/// A finite number.
fn number(text: &str) -> Option<f32> {
    text.parse::<f32>().ok().filter(|v| v.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points(text: &str) -> Vec<(f32, f32, bool)> {
        match clicks(text).unwrap().shape {
            PromptShape::Points(clicks) => clicks.iter().map(|c| (c.x, c.y, c.positive)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clicks_and_boxes_are_read_in_both_forms() {
        assert_eq!(points("obj=1 320,180"), [(320.0, 180.0, true)]);
        assert_eq!(points("1 320,180"), [(320.0, 180.0, true)]);
        assert_eq!(points("obj=cat 1.5,2,+ 3,4,-"), [(1.5, 2.0, true), (3.0, 4.0, false)]);
        let late = clicks("video=bear obj=2 frame=20 5,6").unwrap();
        assert_eq!(
            (late.video.as_deref(), late.object.as_str(), late.frame),
            (Some("bear"), "2", FrameName::Index(20))
        );
        let found = corners("obj=1 frame=10 1,2,30,40").unwrap();
        assert_eq!((found.frame, found.shape), (FrameName::Index(10), PromptShape::Bbox([1.0, 2.0, 30.0, 40.0])));
    }

    #[test]
    fn what_is_no_prompt_is_named() {
        for (text, part) in [
            ("", "no object is named"),
            ("320,180", "no object is named"),
            ("obj=1", "no click"),
            ("obj=1 320", "`320` is no click"),
            ("obj=1 320,180,*", "`320,180,*` is no click"),
            ("obj=1 320,nan", "`320,nan` is no click"),
            ("obj=1 1,2 frame=x", "frames are counted from 0"),
            ("obj=1 obj=2 1,2", "said twice"),
            ("obj=1 colour=red 1,2", "`colour` is unknown"),
        ] {
            let fault = clicks(text).unwrap_err();
            assert!(fault.contains(part), "{text:?}: {fault}");
        }
        assert!(corners("obj=1 1,2,3").unwrap_err().contains("`1,2,3` is no box"));
        assert!(corners("obj=1 1,2,3,4 5,6,7,8").unwrap_err().contains("2 boxes"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_prompt_or_an_error(text in "\\PC{0,40}", typed in "(obj=)?[a-z0-9]{0,3}( [0-9.,+=-]{0,9}){0,4}") {
            for text in [&text, &typed] {
                let _ = (clicks(text), corners(text));
            }
        }

        #[test]
        fn what_is_typed_is_what_is_given(places in prop::collection::vec((0u32..5000, 0u32..5000, any::<bool>()), 1..6)) {
            let words = places.iter().map(|(x, y, p)| format!(" {x},{y}{}", if *p { "" } else { ",-" }));
            let read = points(&format!("obj=7{}", words.collect::<String>()));
            let given: Vec<_> = places.iter().map(|&(x, y, p)| (x as f32, y as f32, p)).collect();
            prop_assert_eq!(read, given);
        }
    }
}

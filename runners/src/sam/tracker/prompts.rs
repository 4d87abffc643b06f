//! How does an object start? Its prompt is decoded on the raw image features.

use super::Tracker;
use super::objects::wiring;
use crate::frame::resize_mask;
use crate::host::tensor::input;
use crate::runner::RunnerError;
use crate::sam::groups::is_mask;
use crate::sam::wiring::{UNUSED, WiringContext};
use crate::types::{Frame, Prompt, PromptShape};

impl Tracker {
    /// Decodes prompts of one kind on the raw image features. True when the decoder was bypassed (mask prompts).
    pub(super) fn decode_prompts(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<bool, RunnerError> {
        let on_gpu = self.settings.on_gpu();
        let tools = WiringContext {
            device: &self.device,
            host: &self.host,
            sizes: &self.sizes,
            features: &self.features,
            decoder: &self.mask_decoder,
            reports: self.settings.results_on_device(),
            gated: self.settings.memory_threshold().is_some(),
        };
        let wiring = wiring(&mut self.wirings, prompts.len())?;
        if is_mask(&prompts[0]) {
            let Some(graph) = &mut self.mask_prompt else {
                return Err(RunnerError::Usage("this pack takes no mask prompts".to_string()));
            };
            let mask = wiring.mask(&tools, graph)?;
            let pixels = (self.sizes.image * self.sizes.image) as usize;
            let planes = mask.masks.extract_tensor_mut().1.chunks_exact_mut(pixels);
            for (prompt, plane) in prompts.iter().zip(planes) {
                if let PromptShape::Mask(given) = &prompt.shape {
                    resize_mask(given, self.sizes.image as u32, plane);
                }
            }
            if on_gpu {
                input(&mut mask.prompt, "mask", &mask.masks)?;
            }
            graph.run(&mask.prompt)?;
            self.mask_decoder.run(&mask.decode_pointer)?;
            wiring.report_mask_scores();
            self.count(prompts.len(), true);
            return Ok(true);
        }
        let points = wiring.points(&tools)?;
        let slots = self.sizes.points as usize;
        let coords = points.coords.extract_tensor_mut().1.chunks_exact_mut(2 * slots);
        let labels = points.labels.extract_tensor_mut().1.chunks_exact_mut(slots);
        let multimask = points.multimask.extract_tensor_mut().1;
        for (((prompt, coords), labels), multimask) in prompts.iter().zip(coords).zip(labels).zip(multimask) {
            let given = prompt.shape.points(frame, self.sizes.image as u32);
            for (slot, (xy, label)) in coords.chunks_exact_mut(2).zip(labels).enumerate() {
                let (at, kind) = given.get(slot).copied().unwrap_or(([0.0; 2], UNUSED));
                xy.copy_from_slice(&at);
                *label = kind;
            }
            // One click is ambiguous: the best of three masks is taken. A box or several clicks mean one mask.
            *multimask = f32::from(u8::from(given.len() == 1));
        }
        if on_gpu {
            points.rebind()?;
        }
        self.mask_decoder.run(&points.decode)?;
        self.count(prompts.len(), false);
        Ok(false)
    }

    /// Counts what `objects` prompts and their results copy.
    fn count(&mut self, objects: usize, masks: bool) {
        self.copies.group(&self.sizes, &self.settings, objects, true);
        if self.settings.on_gpu() {
            self.copies.prompts(&self.sizes, objects, masks);
        }
    }
}

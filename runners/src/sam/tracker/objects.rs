//! Which objects are tracked, and where do their memories lie? Objects start, and join those that are there.

use std::collections::BTreeMap;

use super::Tracker;
use crate::host::settings::MemoryPolicy;
use crate::runner::RunnerError;
use crate::sam::groups::Group;
use crate::sam::state::Memories;
use crate::sam::wiring::{Wiring, WiringContext};

impl Tracker {
    /// Most objects that run together.
    pub(super) fn most_together(&self) -> usize {
        if self.sizes.batched { self.settings.together() } else { 1 }
    }

    /// Memories for objects that start on this frame, with the wiring they need.
    pub(super) fn new_group(&mut self, objects: Vec<u32>) -> Result<Group, RunnerError> {
        let memories = self.new_memories(objects.len())?;
        Ok(Group { objects, memories })
    }

    /// Remembers the frame on which they start, from what was just decoded.
    pub(super) fn begin(&mut self, group: &mut Group) -> Result<(), RunnerError> {
        let wiring = wiring(&mut self.wirings, group.objects.len())?;
        let (blank, passed) = wiring.blank(&self.host, &self.sizes)?;
        let embed = &self.features.image_embed;
        group.memories.start(&mut self.memory_encoder, embed, passed, blank, self.settings.on_gpu())
    }

    /// Tensors and bindings for so many objects.
    pub(super) fn wire(&mut self, objects: usize) -> Result<&mut Wiring, RunnerError> {
        if !self.wirings.contains_key(&objects) {
            if !self.founds {
                // Only the sizes in use are kept, so that memory does not grow with the variety of the videos.
                let live: Vec<usize> = self.groups.iter().map(|group| group.objects.len()).collect();
                self.wirings.retain(|size, _| live.contains(size));
            }
            let tools = WiringContext {
                device: &self.device,
                host: &self.host,
                sizes: &self.sizes,
                features: &self.features,
                decoder: &self.mask_decoder,
                reports: self.settings.results_on_device(),
                gated: self.settings.memory_threshold().is_some(),
            };
            self.wirings.insert(objects, Wiring::new(&tools, objects)?);
        }
        wiring(&mut self.wirings, objects)
    }

    pub(super) fn new_memories(&mut self, objects: usize) -> Result<Memories, RunnerError> {
        self.wire(objects)?;
        let wiring = wiring(&mut self.wirings, objects)?;
        match wiring.spare.pop() {
            Some(memories) => Ok(memories),
            None => Memories::new(
                &self.device,
                &self.sizes,
                objects,
                &self.features.image_embed,
                &mut wiring.passed,
                (&self.memory_attention, &self.memory_encoder),
                self.settings.memory() == MemoryPolicy::GatedLast,
            ),
        }
    }

    /// Takes a started group in: it joins the last one while that has room and its age does not matter, else it stays a
    /// group of its own.
    pub(super) fn admit(&mut self, started: Group) -> Result<(), RunnerError> {
        let most = if self.memory_attention.cpu_form { 0 } else { self.most_together() };
        let room = |last: &mut Group| last.objects.len().saturating_add(started.objects.len()) <= most;
        let Some(last) = self.groups.pop_if(room) else {
            self.groups.push(started);
            return Ok(());
        };
        let mut objects = last.objects.clone();
        objects.extend(&started.objects);
        let mut memories = self.new_memories(objects.len())?;
        for layer in 0..memories.layers() {
            let (first, second) = (last.memories.layer(layer), started.memories.layer(layer));
            self.rows.put_together(first, second, memories.anew(layer))?;
        }
        self.groups.push(Group { objects, memories });
        Ok(())
    }

    /// Keeps the memories of a group whose objects are tracked no longer, for others.
    pub(super) fn lay_by(&mut self, group: Group) {
        if let Some(wiring) = self.wirings.get_mut(&group.objects.len()) {
            wiring.spare.push(group.memories);
        }
    }
}

/// The wiring for so many objects; every live group has one.
pub(super) fn wiring(wirings: &mut BTreeMap<usize, Wiring>, objects: usize) -> Result<&mut Wiring, RunnerError> {
    wirings.get_mut(&objects).ok_or_else(|| RunnerError::Inference(format!("no tensors for {objects} objects")))
}

//! What a model tells apart, and where its answer is in a row.

use crate::profile::{Profile, Role};

use super::PerformanceError;

/// Most classes whose performance is followed.
pub const MAX_CLASSES: usize = 32;
/// How far a probability may lie outside `[0, 1]` by rounding.
const ROUNDING: f64 = 1e-5;

/// The classes of a model, and the subjects that hold its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    classes: Vec<Class>,
    /// The class that precision and recall speak of, where there are two.
    positive: Option<usize>,
    label: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
struct Class {
    name: String,
    /// The name as a number: 1, "1" and 1.0 are one class.
    number: Option<f64>,
    /// Index of the subject with its probability.
    probability: Option<usize>,
    /// Name of that subject.
    output: Option<String>,
}

/// One row's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction<'a> {
    class: usize,
    probabilities: &'a [f64],
}

impl Task {
    /// The task of the model that `profile` belongs to: the classes of its target, or else those of its probability outputs.
    ///
    /// # Errors
    /// [`PerformanceError::Classes`] for a regression, and for more than [`MAX_CLASSES`] classes.
    pub fn new(profile: &Profile) -> Result<Self, PerformanceError> {
        let outputs = || {
            profile
                .subjects()
                .enumerate()
                .filter(|(_, subject)| subject.role.is_some())
        };
        let of_target = profile.target.iter().flat_map(|target| target.classes.iter());
        let mut names: Vec<&String> = of_target.collect();
        if names.is_empty() {
            names = outputs()
                .filter_map(|(_, subject)| subject.class.as_ref())
                .collect();
        }
        if !(2..=MAX_CLASSES).contains(&names.len()) {
            return Err(PerformanceError::Classes { found: names.len() });
        }
        let classes: Vec<Class> = names
            .into_iter()
            .map(|name| {
                let output = outputs()
                    .find(|(_, s)| s.role == Some(Role::Probability) && s.class.as_ref() == Some(name));
                Class {
                    name: name.clone(),
                    number: name.parse().ok(),
                    probability: output.map(|(index, _)| index),
                    output: output.map(|(_, subject)| subject.name.clone()),
                }
            })
            .collect();
        let named = profile.target.as_ref().and_then(|t| t.positive_class.as_ref());
        let positive = (classes.len() == 2).then(|| {
            named
                .and_then(|name| classes.iter().position(|c| c.name == *name))
                .unwrap_or(1)
        });
        Ok(Self {
            classes,
            positive,
            label: outputs()
                .find(|(_, subject)| subject.role == Some(Role::Label))
                .map(|(index, _)| index),
        })
    }

    /// Names of the classes, in the order of every list here.
    pub fn classes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.classes.iter().map(|class| class.name.as_str())
    }

    /// Index of the subject that holds the predicted class, as in [`Monitor::subjects`](crate::Monitor::subjects).
    pub fn label_subject(&self) -> Option<usize> {
        self.label
    }

    /// Indices of the subjects that hold the probability of each class; none for a class without one.
    pub fn probability_subjects(&self) -> impl ExactSizeIterator<Item = Option<usize>> {
        self.classes.iter().map(|class| class.probability)
    }

    /// Whether the model tells probabilities, as an estimate without labels needs: of either class where there are two, of
    /// every class otherwise.
    pub fn has_probabilities(&self) -> bool {
        let mut known = self.probability_subjects().map(|subject| subject.is_some());
        if self.positive.is_some() {
            known.any(|known| known)
        } else {
            known.all(|known| known)
        }
    }

    /// The class with this name: a label as text.
    pub fn class_of_text(&self, text: &[u8]) -> Option<usize> {
        let exact = self
            .classes
            .iter()
            .position(|class| class.name.as_bytes() == text);
        exact.or_else(|| {
            let number = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
            self.class_of_number(number)
        })
    }

    /// The class whose name is this number: a label as integer or float.
    pub fn class_of_number(&self, number: f64) -> Option<usize> {
        self.classes.iter().position(|class| class.number == Some(number))
    }

    /// The class of a truth value: one called `true` or `false`, or else 1 or 0.
    pub fn class_of_boolean(&self, value: bool) -> Option<usize> {
        let name: &[u8] = if value { b"true" } else { b"false" };
        let exact = self
            .classes
            .iter()
            .position(|class| class.name.as_bytes().eq_ignore_ascii_case(name));
        exact.or_else(|| self.class_of_number(f64::from(u8::from(value))))
    }

    /// A row's answer from its parts, or `None` when it has neither a known class nor probabilities.
    ///
    /// `class`: the predicted one; without it the most probable, the first of equals. `probabilities`: shape `[classes]`, NaN where
    /// the model tells none, or empty; of two classes one is enough. Probabilities that are not in `[0, 1]` are left out.
    /// They are completed in place.
    pub fn prediction<'a>(
        &self,
        class: Option<usize>,
        probabilities: &'a mut [f64],
    ) -> Option<Prediction<'a>> {
        let known = probabilities.len() == self.classes.len() && complete(probabilities);
        let probabilities: &'a [f64] = if known { probabilities } else { &[] };
        let class =
            class.filter(|class| *class < self.classes.len()).or_else(|| {
                let first = *probabilities.first()?;
                let most = probabilities.iter().enumerate().fold((0, first), |best, (i, p)| {
                    if *p > best.1 { (i, *p) } else { best }
                });
                Some(most.0)
            })?;
        Some(Prediction { class, probabilities })
    }

    /// Name of the subject with the probability of a class.
    pub(super) fn output(&self, class: usize) -> Option<&str> {
        self.classes.get(class)?.output.as_deref()
    }

    pub(super) fn positive(&self) -> Option<usize> {
        self.positive
    }

    /// The classes that are counted against the rest: of two the positive one, of more all of them.
    pub(super) fn counted(&self) -> impl Iterator<Item = usize> {
        let (from, to) = match self.positive {
            Some(class) => (class, class + 1),
            None => (0, self.classes.len()),
        };
        from..to
    }

    pub(super) fn name(&self, class: usize) -> String {
        self.classes
            .get(class)
            .map(|c| c.name.clone())
            .unwrap_or_default()
    }
}

impl<'a> Prediction<'a> {
    /// The predicted class.
    pub fn class(self) -> usize {
        self.class
    }

    /// Probability per class; empty when the model tells none.
    pub fn probabilities(self) -> &'a [f64] {
        self.probabilities
    }
}

/// Fills in the other one of two, and clamps rounding; false where something is missing or no probability.
fn complete(probabilities: &mut [f64]) -> bool {
    if let [a, b] = probabilities {
        if a.is_nan() {
            *a = 1.0 - *b;
        } else if b.is_nan() {
            *b = 1.0 - *a;
        }
    }
    let valid = probabilities
        .iter()
        .all(|p| (-ROUNDING..=1.0 + ROUNDING).contains(p));
    for p in probabilities.iter_mut() {
        *p = p.clamp(0.0, 1.0);
    }
    valid
}

#[cfg(test)]
pub(super) mod tests {
    use super::{MAX_CLASSES, Task};
    use crate::Profile;
    use crate::performance::PerformanceError;

    const EXAMPLE: &[u8] = include_bytes!("../../schema/example.profile.json");

    pub(crate) fn example() -> Profile {
        Profile::from_json(EXAMPLE).expect("the example is valid")
    }

    #[test]
    fn a_task_knows_its_classes_and_where_the_answer_is() {
        let profile = example();
        let task = Task::new(&profile).expect("a classifier");
        let classes: Vec<&str> = task.classes().collect();
        assert_eq!(
            Some(classes),
            profile
                .target
                .as_ref()
                .map(|t| t.classes.iter().map(String::as_str).collect())
        );
        let subjects: Vec<_> = profile.subjects().collect();
        let label = task.label_subject().expect("a label");
        assert_eq!(subjects[label].role, Some(crate::profile::Role::Label));
        assert!(task.has_probabilities());
        for (name, subject) in task.classes().zip(task.probability_subjects()) {
            assert_eq!(subjects[subject.expect("an output")].class.as_deref(), Some(name));
        }
    }

    #[test]
    fn a_class_is_found_as_text_number_and_truth_value() {
        let mut profile = example();
        let target = profile.target.as_mut().expect("a target");
        target.classes = vec!["0".to_owned(), "1".to_owned()];
        target.positive_class = Some("1".to_owned());
        let task = Task::new(&profile).expect("a classifier");
        assert_eq!(task.class_of_text(b"1"), Some(1));
        assert_eq!(
            [task.class_of_text(b"1.0"), task.class_of_number(0.0)],
            [Some(1), Some(0)]
        );
        assert_eq!(
            [task.class_of_boolean(true), task.class_of_text(b"2")],
            [Some(1), None]
        );
    }

    #[test]
    fn an_answer_is_completed_or_refused() {
        let task = Task::new(&example()).expect("a classifier");
        let mut row = [0.3, f64::NAN];
        let answer = task.prediction(None, &mut row).expect("a probability");
        assert_eq!((answer.class(), answer.probabilities()), (1, &[0.3, 0.7][..]));
        let mut row = [0.3, 1.5];
        assert!(task.prediction(None, &mut row).is_none());
        let mut row = [f64::NAN, f64::NAN];
        let label = task.prediction(Some(0), &mut row).expect("a label");
        assert_eq!((label.class(), label.probabilities().len()), (0, 0));
        assert!(task.prediction(Some(7), &mut []).is_none());
    }

    #[test]
    fn what_is_no_classifier_is_refused() {
        let mut profile = example();
        profile.target = None;
        profile.outputs.clear();
        assert_eq!(Task::new(&profile), Err(PerformanceError::Classes { found: 0 }));
        let mut profile = example();
        profile.target.as_mut().expect("a target").classes =
            (0..=MAX_CLASSES).map(|i| i.to_string()).collect();
        assert_eq!(
            Task::new(&profile),
            Err(PerformanceError::Classes {
                found: MAX_CLASSES + 1
            })
        );
    }
}

//! One Markdown file: its links, and the anchors that GitHub makes of its headings.

use std::collections::{HashMap, HashSet};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Links and anchors of a file.
pub(super) struct Page {
    /// Destinations of links and images, as they are written.
    pub(super) links: Vec<String>,
    /// Names that can follow a `#`.
    pub(super) anchors: HashSet<String>,
}

impl Page {
    /// Reads a file's text.
    pub(super) fn parse(text: &str) -> Self {
        let mut page = Self { links: Vec::new(), anchors: HashSet::new() };
        let mut repeated: HashMap<String, usize> = HashMap::new();
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let slug = slug(&heading.take().unwrap_or_default());
                    let count = repeated.entry(slug.clone()).or_default();
                    page.anchors.insert(match *count {
                        0 => slug,
                        count => format!("{slug}-{count}"),
                    });
                    *count += 1;
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => page.anchors.extend(ids(&html)),
                _ => {}
            }
        }
        page
    }
}

/// Returns the anchor of a heading: lower case, spaces as hyphens, without punctuation.
fn slug(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// Returns the values of `id="…"` in a piece of HTML.
fn ids(html: &str) -> impl Iterator<Item = String> {
    html.split("id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_that_github_makes() {
        let page = Page::parse(
            "# What's `up`: a test\n## The_first, and 2nd\n## Same\n## Same\n<a id=\"own\"></a>\n",
        );
        for anchor in ["whats-up-a-test", "the_first-and-2nd", "same", "same-1", "own"] {
            assert!(page.anchors.contains(anchor), "{anchor}: {:?}", page.anchors);
        }
    }

    #[test]
    fn links_in_code_are_none() {
        let page = Page::parse(
            "[a](b.md) `[c](d.md)`\n\n    [e](f.md)\n\n![g](h.png)\n[i]\n\n[i]: j.md\n",
        );
        assert_eq!(page.links, ["b.md", "h.png", "j.md"]);
    }
}


// Whole words count, and the beginnings of the last word while it is typed; rare words count more than frequent ones.
const siteWords = (text) => (text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? []).flatMap((word) => (word.includes("_") ? [word, ...word.split("_")] : [word]));
const siteStem = (word) => word.length > 3 && !word.includes("_") ? word.replace(/(?<=[^aeious])s$|(?<=[ae])s$/, "") : word;
const siteFiller = new Set(`a an and any are as at be but by can could did do does for from get had has have how i if in into is it its
  many may me mine must my no not of on one or our own s say should so t than that the their them then there these this to up us use
  want was we what when where which who why will with would you your`.split(/\s+/));
const siteAsked = (query) => {
  const all = siteWords(query), told = all.filter((word) => !siteFiller.has(word));
  return { all: all.map(siteStem), words: [...new Set((told.length ? told : all).map(siteStem))] };
};
let siteCounted;
const siteCount = (index) => { // once: of each entry the words of title, section and text, and in how many entries a word stands
  const entries = [], frequency = new Map();
  for (const entry of index) {
    const parts = ["title", "section", "text"].map((key) => siteWords(entry[key]).map(siteStem)), times = new Map();
    parts[2].forEach((word) => times.set(word, (times.get(word) ?? 0) + 1));
    for (const word of new Set(parts.flat())) frequency.set(word, (frequency.get(word) ?? 0) + 1);
    entries.push({ entry, title: parts[0], section: parts[1], times, exact: entry.section.toLowerCase() });
  }
  return { entries, frequency };
};
window.siteSearch = (index, query, limit) => {
  siteCounted ??= siteCount(index);
  const { entries, frequency } = siteCounted, { all, words } = siteAsked(query), last = words[words.length - 1];
  const typing = /[\p{L}\p{N}_]$/u.test(query) && !frequency.has(last);
  const fits = (word) => (typing && word === last ? (other) => other.startsWith(word) : (other) => other === word);
  const scored = [], phrase = all.join(" ");
  for (const { entry, title, section, times, exact } of entries) {
    let score = 0, found = 0;
    for (const word of words) {
      const fit = fits(word), rare = Math.log(1 + entries.length / (frequency.get(word) ?? 1));
      let count = times.get(word) ?? 0;
      if (!count && typing && word === last) for (const [other, n] of times) if (fit(other)) count += n;
      const one = (title.some(fit) ? 3 + 6 / title.length : 0) + (section.some(fit) ? 3 + 6 / section.length : 0) + count / (1 + count);
      if (one) found += 1;
      score += one * rare;
    }
    if (!found) continue;
    for (const name of [title, section]) if (all.length > 1 && ` ${name.join(" ")} `.includes(` ${phrase} `)) score += 30;
    if (exact === query.trim().toLowerCase()) score += 60; // the name of a function
    if (all.includes("own") && title.includes("own")) score += 6; // fillers decide between equals
    score += (words.length > 1 ? 1 : 2) * (entry.section ? 0 : 2); // the page itself before its sections
    if (entry.href.startsWith("workshop/") && !words.includes("workshop")) score *= 0.6; // answers before exercises
    scored.push([score * (found / words.length) ** 2, entry]);
  }
  return scored.sort((a, b) => b[0] - a[0]).slice(0, limit).map((pair) => pair[1]);
};
window.siteSnippet = (text, query, escape) => { // the stretch that holds most of the words, whole words marked
  const { words } = siteAsked(query), found = []; // a name in code is marked as a whole
  for (const match of text.matchAll(/[\p{L}\p{N}_]+/gu)) {
    if (words.includes(siteStem(match[0].toLowerCase()))) found.push([match.index, match[0].length]);
  }
  const near = ([at]) => new Set(found.filter(([x]) => x >= at && x < at + 160).map(([x, n]) => text.slice(x, x + n).toLowerCase())).size;
  const first = found.reduce((best, one) => (best && near(best) >= near(one) ? best : one), null);
  let start = Math.max(0, (first?.[0] ?? 0) - 50);
  if (start) start = text.indexOf(" ", start) + 1;
  let shown = "", at = start;
  const end = Math.min(text.length, start + 210);
  for (const [x, n] of found.filter(([x, n]) => x >= start && x + n <= end)) {
    shown += `${escape(text.slice(at, x))}<mark>${escape(text.slice(x, x + n))}</mark>`;
    at = x + n;
  }
  return (start ? "…" : "") + shown + escape(text.slice(at, end));
};

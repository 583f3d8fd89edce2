
window.siteSearch = (index, query, limit) => {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const scored = [];
  for (const entry of index) {
    const title = entry.title.toLowerCase(), section = entry.section.toLowerCase(), text = entry.text.toLowerCase();
    let score = 0;
    for (const word of words) {
      const times = text.split(word).length - 1;
      const one = (title.includes(word) ? 8 : 0) + (section === word ? 40 : section.includes(word) ? 12 : 0) + Math.min(times, 5);
      if (!one) { score = 0; break; }
      score += one;
    }
    if (score) scored.push([score, entry]);
  }
  return scored.sort((a, b) => b[0] - a[0]).slice(0, limit).map((pair) => pair[1]);
};

"""A bar chart as SVG, with nothing but strings. Readable on light and dark pages."""
from xml.sax.saxutils import escape

WIDTH, LABELS, BAR, GAP, HEAD = 860, 330, 20, 9, 44
STYLE = ("text{font:13px system-ui,sans-serif;fill:#334}.title{font-weight:600;font-size:15px}"
         ".bar{fill:#9ab}.ours{fill:#27c}@media(prefers-color-scheme:dark){text{fill:#dde}}")


def bars(title, values, unit):
    """`values` is {label: number}; labels that speak of pgprojector stand out."""
    longest = max(values.values()) or 1
    scale = (WIDTH - LABELS - 90) / longest
    height = HEAD + len(values) * (BAR + GAP) + 6
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
             f"<style>{STYLE}</style>", f'<text class="title" x="10" y="24">{escape(title)}</text>']
    for row, (label, value) in enumerate(values.items()):
        y = HEAD + row * (BAR + GAP)
        kind = "bar ours" if "pgprojector" in label else "bar"
        parts.append(f'<text x="{LABELS - 8}" y="{y + 15}" text-anchor="end">{escape(label[:52])}</text>')
        parts.append(f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{max(1, value * scale):.1f}" height="{BAR}" rx="2"/>')
        parts.append(f'<text x="{LABELS + value * scale + 7:.1f}" y="{y + 15}">{value:.2f} {unit}</text>')
    return "\n".join(parts) + "\n</svg>\n"

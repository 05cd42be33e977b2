"""Runs side by side: what each has measured, made and been made of, on a screen and as one page.

`runs` reads their folders, with `lines` for the files that grow. `settings` says in which setting a value was measured;
`boards` lays those of one beside each other and marks what cannot be compared; `boards_text` tells them on a screen.
`differ` has what differs between the recipes and between the facts. `charts` are the curves, `axes` their ticks,
`envelope` makes few points of many. `pictures` are taken along in the page, which `page` puts together from page.html,
page.css and page.js.
"""

"""What lies on disk and is no recipe.

Collections of pictures: `collection` is a folder or a zip with labels, as one thing. `folder` and `archive` find and
read what lies in either, `listing` is what they found, `labels` reads label files, `prepared` knows how a set of `dmf
data prepare` is laid out, `places` what is meant by a path that a person writes.

Pictures: `pictures` decodes one, `quiet` keeps what decoders print off the screen, `reading` makes of many what a set
holds of them.

What is kept from one start to the next: `cache` keeps and finds bytes, `index` is what is known of a collection's
files, `pixels` their decoded pixels, `samples` what tells the contents of very many apart.

Weights: `state_dicts` reads those that other programs have written.

For all of them: `download` fetches a file and looks at its checksum, `threads` works on many things in order,
`progress` tells how far that is, `words` has names and numbers as messages do, `writing` writes a file whole or not at
all, `sheets` draws images for a person to look at, with the letters of `lettering`.
"""

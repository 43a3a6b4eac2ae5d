"""Results on disk, both ways: what `--save` names (`kinds`, `writer`), and what is read back (`readers`).

    photos = plan([(path, folder), …])
    with ResultsWriter(out, ("overlay", "png", "json"), photos, task=…, labels=…, run=…, draw=overlay) as writer:
        for photo in photos:
            if not writer.is_complete(photo): writer.write(photo, image, segments, …)

    predictions = open_predictions(out)

Importing this package imports nothing: `segcli predict --help` asks `kinds` for their names.
"""

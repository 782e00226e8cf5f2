"""Where images come from: one small interface (`training.sources.source`) and one file per source."""

"""What a person looks at: galleries, the report page and the views into a model."""

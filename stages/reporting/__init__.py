"""Results become what people read: figures, tables, sentences and a page. All figures of the stages are drawn here."""

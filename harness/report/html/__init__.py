"""One self-contained page, made of templates, styles and scripts that stand beside this file."""

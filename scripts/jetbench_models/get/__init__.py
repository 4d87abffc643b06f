"""How does a released checkpoint become a proven pack on this disk? ``releases`` knows the files, ``download`` fetches one,
``command`` exports and proves."""

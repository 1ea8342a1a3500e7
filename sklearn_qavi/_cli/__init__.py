"""Parts of ``sklearn-qavi impute``: tables of files in, completed ones and a report out."""

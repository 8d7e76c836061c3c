"""The network: GLR and the other norms, layers, the classifier. Knows no files and no flags."""

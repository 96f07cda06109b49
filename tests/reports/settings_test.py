from tf_mmvae.reports.settings import Settings


def test_settings_as_text():
  settings = Settings({"mm.b": "@mm.f()", "SEED": 0, "A": "words", "a.c": "%SEED"})
  assert settings.text() == "A = 'words'\nSEED = 0\na.c = %SEED\nmm.b = @mm.f()"

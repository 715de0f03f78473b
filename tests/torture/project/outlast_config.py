from outlast import Config

config = Config(project="torture")

from outlast.config import Config

config = Config(project="torture")

from outlast.config import Config

config = Config(dirs=["tasks"])

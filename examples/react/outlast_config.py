from outlast.config import Config

config = Config(project="react-example", dirs=["tasks"])

"""The base of every answer schema and the class list that several nouns show."""

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Read from the attributes of a row."""

    model_config = ConfigDict(from_attributes=True)


class LabelClassAnswer(Answer):
    """One class; its position in the list is its value in label maps."""

    name: str = Field(examples=["hair"])
    thing: bool = Field(False, description="Has instances")
    color: str = Field(examples=["#e69f00"])
    background: bool = False

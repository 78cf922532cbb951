"""What can stop a test's broker: something is not installed, or something went wrong."""


class KafkaTestError(Exception):
    """The broker did not do what was asked; the message holds the end of its log."""


class KafkaMissingError(KafkaTestError):
    """This machine lacks what a real broker needs; the message says what to install."""

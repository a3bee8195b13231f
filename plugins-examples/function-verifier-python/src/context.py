"""What clouds tell a function about its call."""

from portreeve_guest import Connect


class Context:
    """The members of the contexts of Lambda and Function Compute that identify a call."""

    function_name = "handler"
    function_version = "$LATEST"

    def __init__(self, request: Connect) -> None:
        self.aws_request_id = f"{request.connection.gateway}-{request.connection.id}"
        self.request_id = self.aws_request_id

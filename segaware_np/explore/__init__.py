"""The mask explorer: one page, without a network or a server, that shows local attention masks."""

from segaware_np.explore.network import describe_network
from segaware_np.explore.page import Page, build_page, embedding_error, make_page

__all__ = ["Page", "build_page", "describe_network", "embedding_error", "make_page"]

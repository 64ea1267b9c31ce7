"""The mask explorer: one page, without a network or a server, that shows local attention masks."""

from segaware_np.explore.page import build_page, embedding_error

__all__ = ["build_page", "embedding_error"]

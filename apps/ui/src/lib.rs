//! What both desktop apps share.

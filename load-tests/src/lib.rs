//! Open- and closed-loop load generators and the constant-answer server they are compared with.

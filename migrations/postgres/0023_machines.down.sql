-- Undoes 0023. Machines that joined prove themselves no more: they join anew, or by a shared token.
DROP TABLE controllers;
DROP TABLE machines;
DROP TABLE join_tokens;

export const greeting = (name) => `Bundled for ${name}`;

/** Owns how many generations of workers may live. */

/** Most generations that live at once: their ports of captured callers are so many stretches. */
export const mostGenerations = 3

/** How a rate looks: widths and particles grow with its logarithm, so 1/s and 10 000/s both read. */

export const minStroke = 1.5;
export const maxStroke = 6.5;

export function strokeWidth(rate: number): number {
  if (rate <= 0) return minStroke;
  return Math.min(maxStroke, minStroke + Math.log10(1 + rate) * 1.4);
}

/**
 * Particles in flight on a curve of this length: whole steps, so that a rate
 * that wobbles does not restart the animation each second.
 */
export function particleCount(rate: number, length: number): number {
  if (rate <= 0) return 0;
  const perHundredPixels = Math.min(3, 0.6 + Math.log10(1 + rate) * 0.8);
  return Math.max(1, Math.min(10, Math.round((perHundredPixels * length) / 100)));
}

/** How many of the particles are drawn as failures: at least one when anything fails. */
export function failedParticles(count: number, errorShare: number): number {
  return errorShare <= 0 || count === 0 ? 0 : Math.max(1, Math.min(count, Math.round(count * errorShare)));
}

export const particleSpeed = 70;

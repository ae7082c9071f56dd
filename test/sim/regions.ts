// Round trips between ten regions, in milliseconds: the averages of 27 July to 25 August 2024 that IBM Cloud publishes for its
// VPC regions (github.com/ibm-cloud-docs/vpc, _include-segments/network-latency.md). Within a region, between its zones: 2 ms.
export const REGIONS = [
  'Dallas',
  'Toronto',
  'Washington DC',
  'Frankfurt',
  'London',
  'Madrid',
  'Osaka',
  'Sydney',
  'Tokyo',
  'Sao Paulo'
] as const

const RTT_MS: readonly (readonly number[])[] = [
  [2, 34, 31, 123, 113, 119, 150, 186, 143, 146],
  [34, 2, 19, 93, 82, 108, 168, 215, 162, 129],
  [31, 19, 2, 91, 75, 87, 172, 214, 164, 118],
  [123, 93, 91, 2, 13, 29, 232, 250, 233, 198],
  [113, 83, 75, 13, 2, 27, 244, 261, 243, 188],
  [122, 106, 88, 29, 27, 2, 257, 275, 258, 209],
  [150, 169, 172, 231, 243, 257, 2, 122, 9, 293],
  [186, 214, 214, 249, 261, 275, 122, 2, 115, 328],
  [143, 162, 166, 233, 244, 256, 9, 115, 2, 284],
  [144, 128, 119, 196, 187, 208, 291, 328, 283, 2]
]

/** Milliseconds one way; agents are dealt out to the regions in turn. */
export function wanLatencyMs(from: number, to: number): number {
  return (RTT_MS[from % REGIONS.length]?.[to % REGIONS.length] ?? 0) / 2
}

// Without Osaka, Sydney and Sao Paulo, the floor is 43, 129 and 129 ms (p50, p99, max): near that of the world for which the aims were
// set, 43, 113 and 125.
const NEAR = [0, 1, 2, 3, 4, 5, 8]
export const NEAR_REGIONS = NEAR.map((region) => REGIONS[region] ?? '')

/** The same for three continents of the north. */
export function nearLatencyMs(from: number, to: number): number {
  return wanLatencyMs(NEAR[from % NEAR.length] ?? 0, NEAR[to % NEAR.length] ?? 0)
}

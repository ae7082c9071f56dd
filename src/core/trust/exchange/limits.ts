// The limits of the exchange with their reasons. They bound the memory and the work that a neighbour can cause here. The
// receiver enforces each of them and does not rely on the sender. The agent runs with EXCHANGE_LIMITS; tests replace
// single ones.

/** Names with `Bytes` are in bytes, names that end in `Ms` in milliseconds; the others are counts. */
export interface ExchangeLimits {
  /** Items of one neighbour that are verified at once, and per second after that. The rest waits or is pulled later. */
  readonly itemsBurst: number
  readonly itemsPerSecond: number
  /** The same for all neighbours together: 500 items cost about 0.2 s of one processor. */
  readonly allItemsBurst: number
  readonly allItemsPerSecond: number
  /** Items that one call verifies: four cost 1 to 2 ms, and 5 ms where each has eleven signatures. */
  readonly itemsPerCall: number
  /** Items and bytes of one neighbour that wait for their verification: two answers to TrustWant. */
  readonly queueItems: number
  readonly queueBytes: number
  /** The largest frame, and the items in it: decoding and hashing 128 items costs about 1 ms. */
  readonly frameBytes: number
  readonly itemsOfFrame: number
  /** Ids in one TrustIds: 16 bytes each, so that they fit into a frame. */
  readonly idsOfFrame: number
  /** Ids in one TrustWant. One is under way for each neighbour, which gives 200 items/s up to a round trip of 0.6 s. */
  readonly wantIds: number
  /** Bytes of the answer to one TrustWant; the asker asks again for what did not fit. */
  readonly answerBytes: number
  /** Questions (TrustDigests) of one neighbour that are answered at once, and per second: twice what an agent asks. */
  readonly questionsBurst: number
  readonly questionsPerSecond: number
  /** Statements that one neighbour gets by TrustWant at once, and per second: twice what an agent takes. */
  readonly servedBurst: number
  readonly servedPerSecond: number
  /** Time without an answer after which a question or a TrustWant counts as lost. */
  readonly answerMs: number
  /** Time between two questions to a neighbour for parts of one comparison. */
  readonly partMs: number
  /** Comparisons under way at a time, and the time that one may take; the next one goes on where it ended. */
  readonly roundsMax: number
  readonly roundLimitMs: number
  /** Time between two comparisons with a neighbour; it doubles up to the second one while neither set changes. */
  readonly roundMs: number
  readonly roundMaxMs: number
  /** Time between two heads after changes, and between two in any case, since a frame can be lost. */
  readonly headMs: number
  readonly headRepeatMs: number
  /** After items were cut, time until further ones are added: a cut costs as much as 50 signatures. */
  readonly trimMs: number
  /** What a bound cut, or a neighbour's copy that was refused, is not asked for again before this time. */
  readonly rememberMs: number
  /** Ids that are remembered as cut, and ids of refused copies for each neighbour. The oldest is forgotten first. */
  readonly cutIds: number
  readonly refusedIds: number
  /** Time after which an admission that waits for its sponsor is asked for again, and how many are remembered. */
  readonly waitingMs: number
  readonly waitingIds: number
}

/** The limits of an agent. */
export const EXCHANGE_LIMITS: ExchangeLimits = {
  itemsBurst: 200,
  itemsPerSecond: 200,
  allItemsBurst: 500,
  allItemsPerSecond: 500,
  itemsPerCall: 4,
  queueItems: 256,
  queueBytes: 1024 * 1024,
  frameBytes: 64 * 1024,
  itemsOfFrame: 128,
  idsOfFrame: 4000,
  wantIds: 128,
  answerBytes: 256 * 1024,
  questionsBurst: 20,
  questionsPerSecond: 10,
  servedBurst: 800,
  servedPerSecond: 400,
  answerMs: 5000,
  partMs: 200,
  roundsMax: 4,
  roundLimitMs: 30_000,
  roundMs: 1000,
  roundMaxMs: 60_000,
  headMs: 500,
  headRepeatMs: 10_000,
  trimMs: 1000,
  rememberMs: 60_000,
  cutIds: 8192,
  refusedIds: 1024,
  waitingMs: 5000,
  waitingIds: 1024
}

/** Bytes of a digest of one bucket. Fewer could be made to collide by an administrator, who chooses nonces. */
export const DIGEST_BYTES = 16
/** Buckets of ids, by the first byte. */
export const BUCKETS = 256
/** Bytes of a short id. */
export const SHORT_ID_BYTES = 16

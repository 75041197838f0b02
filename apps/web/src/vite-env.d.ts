/// <reference types="svelte" />
/// <reference types="vite/client" />

/** Version of the program that contains this page. */
declare const __VERSION__: string;

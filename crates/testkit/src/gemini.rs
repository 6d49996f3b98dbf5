//! A stand-in for the Gemini API: `generateContent` with scripted answers and failures.

pub mod predict;
